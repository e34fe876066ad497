//! Ranks of one process that arrive, look, wait and forget.

use std::time::{Duration, Instant};

use crate::comm::setup::beacon::arrival::{Environment, arrive, arrive_from};
use crate::comm::setup::beacon::conclusion::Conclusion;
use crate::comm::setup::beacon::membership::{MemberRange, Membership, View};
use crate::comm::setup::beacon::socket::{Beacon, OriginKey, Sight, Whose, key_of};
use crate::comm::setup::beacon::state::with_state;
use crate::comm::setup::beacon::{await_outcome, conclusion, forget, socket};
use crate::comm::setup::sockets;
use crate::nccl::{ncclComm_t, ncclSuccess};
use crate::route::Reason;

/// A communicator that NCCL has made, so that every rank has lit its beacon and can look.
fn arrived(ids: &[u8], ranks: i32, rank: i32) -> Membership {
    let (member, members) = (rank as usize, ranks as usize);
    let key = key_of(&[ids, &ranks.to_le_bytes()]);
    let mut membership = Membership::without_beacon(key, member, members, Ok(()));
    membership.view = View::Beacons(vec![MemberRange { key, from: 0, to: members }]);
    membership.beacon = Beacon::light(&key, Whose::Member(member));
    membership.outcome = None;
    membership
}

fn add(membership: Membership, handle: usize) {
    with_state(|state| state.add(membership, handle as ncclComm_t));
}

fn of(handle: usize, ranks: usize) -> Result<(), Reason> {
    await_outcome(handle as ncclComm_t, ranks, || Duration::ZERO, || false)
}

/// Unique ids that no other test run has.
fn ids(test: &str) -> Vec<u8> {
    format!("{test} {} {:?}", std::process::id(), Instant::now()).into_bytes()
}

#[test]
fn a_conclusion_stays_when_a_beacon_is_put_out_later() {
    let ids = ids("come and go");
    (0..3).for_each(|rank| add(arrived(&ids, 3, rank), 0x100 + rank as usize));
    assert_eq!(of(0x100, 3), Ok(()));
    forget(0x101 as ncclComm_t);
    assert_eq!((of(0x100, 3), of(0x101, 3)), (Ok(()), Err(Reason::Untraced)));
    // A rank that looks only now sees that one beacon was put out.
    assert_eq!(of(0x102, 3), Err(Reason::Absent));
    [0x100, 0x102].iter().for_each(|handle| forget(*handle as ncclComm_t));
}

#[test]
fn a_rank_without_a_beacon_forwards_without_looking_and_so_do_the_others() {
    let ids = ids("one without");
    let without = Membership { beacon: Beacon::Unlit, ..arrived(&ids, 2, 1) };
    add(arrived(&ids, 2, 0), 0x110);
    add(without, 0x111);
    assert_eq!([0x110, 0x111].map(|handle| of(handle, 2)), [Err(Reason::Absent); 2]);
    [0x110, 0x111].iter().for_each(|handle| forget(*handle as ncclComm_t));
}

#[test]
fn a_rank_that_waited_in_vain_and_one_that_looks_afterwards_both_forward() {
    let ids = ids("too late");
    let waiting = arrived(&ids, 2, 1);
    let heard = waiting.beacon.await_verdict(&waiting.beacon_key, Instant::now(), || false).0;
    assert_eq!(conclusion::after_waiting(heard), Conclusion::SomeMissing);
    // Its beacon is still bound for a moment, but receives no message.
    add(arrived(&ids, 2, 0), 0x120);
    assert_eq!(of(0x120, 2), Err(Reason::Absent));
    forget(0x120 as ncclComm_t);
}

#[test]
fn communicators_with_one_id_share_a_beacon() {
    // NCCL_COMM_ID makes such communicators.
    let key = key_of(&[&ids("again")]);
    let view = || View::Beacons(vec![MemberRange { key, from: 0, to: 2 }]);
    for handle in [0x130, 0x131] {
        let environment = Environment { obstacle: None, batch_invariant: false };
        let membership = with_state(|state| environment.arriving(state, key, 0, 2, view()));
        assert!(matches!(membership.beacon, Beacon::Lit(_)));
        add(membership, handle);
    }
    forget(0x130 as ncclComm_t);
    assert_eq!(socket::look(&key, Whose::Member(0)), Sight::Lit);
    forget(0x131 as ncclComm_t);
    assert_eq!(socket::look(&key, Whose::Member(0)), Sight::Missing);
}

#[test]
fn ranks_that_differ_in_batch_invariance_all_forward_for_that_reason() {
    // `differing`: bit r is rank r's DIME_BATCH_INVARIANT.
    for (ranks, differing) in [(2, 0b10), (2, 0b01), (3, 0b010), (3, 0b101), (4, 0b0001)] {
        let key = key_of(&[&ids("differ"), &[ranks as u8, differing as u8]]);
        let handles: Vec<usize> = (0..ranks).map(|rank| 0x600 + rank).collect();
        for (rank, &handle) in handles.iter().enumerate() {
            let environment = Environment { obstacle: None, batch_invariant: differing >> rank & 1 == 1 };
            let view = View::Beacons(vec![MemberRange { key, from: 0, to: ranks }]);
            add(with_state(|state| environment.arriving(state, key, rank, ranks, view)), handle);
        }
        // One after the other: the later ones find the beacons of the earlier ones put out.
        for &handle in &handles {
            assert_eq!(of(handle, ranks), Err(Reason::Settings), "{ranks} {differing:b} {handle:x}");
        }
        handles.iter().for_each(|handle| forget(*handle as ncclComm_t));
    }
}

#[test]
fn ranks_that_all_ask_for_batch_invariance_are_set_up() {
    let key = key_of(&[&ids("invariant")]);
    let environment = Environment { obstacle: None, batch_invariant: true };
    let view = || View::Beacons(vec![MemberRange { key, from: 0, to: 2 }]);
    (0..2).for_each(|rank| {
        add(with_state(|state| environment.arriving(state, key, rank, 2, view())), 0x610 + rank);
    });
    assert_eq!([0x610, 0x611].map(|handle| of(handle, 2)), [Ok(()); 2]);
    [0x610, 0x611].iter().for_each(|handle| forget(*handle as ncclComm_t));
}

#[test]
fn a_coordinator_with_another_batch_invariance_is_seen_and_sees() {
    let ids = ids("grows differently");
    let (old, new) = (key_of(&[&ids, b"old"]), key_of(&[&ids, b"new"]));
    let arriving = |batch_invariant, key, member, view| {
        let environment = Environment { obstacle: None, batch_invariant };
        with_state(|state| environment.arriving(state, key, member, 2, view))
    };
    for coordinator_first in [false, true] {
        let parts = [(old, 0, 1), (new, 1, 2)].map(|(key, from, to)| MemberRange { key, from, to });
        let mut coordinator = arriving(true, old, 0, View::Beacons(parts.into()));
        coordinator.coordinate([&old, &new]);
        add(coordinator, 0x620);
        add(arriving(false, new, 1, View::Coordinator(new)), 0x621);
        let order = if coordinator_first { [0x620, 0x621] } else { [0x621, 0x620] };
        assert_eq!(of(order[0], 2), Err(Reason::Settings));
        let second = of(order[1], 2);
        // The waiting rank sends no message, so the coordinator finds only that it has gone.
        let expected = if coordinator_first { Reason::Settings } else { Reason::Absent };
        assert_eq!(second, Err(expected));
        [0x620, 0x621].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }
}

#[test]
fn parts_of_a_communicator_are_told_apart() {
    let key = |round: u64, color: u8| key_of(&[b"parts", &ids("parts")[..5], &round.to_le_bytes(), &[color]]);
    let part = |round: u64, member: usize| {
        let key = key(round, member as u8 % 2);
        let mut membership = Membership::without_beacon(key, member, 4, Ok(()));
        membership.view = View::Beacons(vec![MemberRange { key, from: 0, to: 4 }]);
        membership.beacon = Beacon::light(&key, Whose::Member(member));
        membership.outcome = None;
        membership
    };
    let random = u64::from_le_bytes(sockets::random().expect("random bytes")[..8].try_into().expect("8 bytes"));
    for round in [random, random.wrapping_add(1)] {
        (0..3).for_each(|member| add(part(round, member), 0x300 + member));
        assert_eq!(of(0x300, 2), Ok(()), "even members are 0 and 2");
        assert_eq!(of(0x301, 2), Err(Reason::Absent), "3 has not come");
    }
    (0x300..0x303).for_each(|handle| forget(handle as ncclComm_t));
}

#[test]
fn a_rank_is_told_by_the_coordinator_of_a_communicator_that_grows() {
    let ids = ids("grows");
    let (old, new) = (key_of(&[&ids, b"old"]), key_of(&[&ids, b"new"]));
    let told = |key: OriginKey, member| {
        let mut membership = Membership::without_beacon(key, member, 3, Ok(()));
        (membership.view, membership.origin_key, membership.outcome) = (View::Coordinator(key), None, None);
        membership.beacon = Beacon::light(&key, Whose::Member(member));
        membership
    };
    for with_new in [false, true] {
        add(told(old, 0), 0x500);
        if with_new {
            add(told(new, 2), 0x502);
        }
        let mut membership = told(old, 1);
        let parts = [(old, 0, 2), (new, 2, 3)].map(|(key, from, to)| MemberRange { key, from, to });
        (membership.view, membership.origin_key) = (View::Beacons(parts.into()), Some([9; 32]));
        membership.coordinate([&old, &new]);
        add(membership, 0x501);
        assert_eq!(
            with_state(|state| state.find(0x500 as ncclComm_t).map(|membership| membership.outcome)),
            Some(None)
        );
        let expected = if with_new { Ok(()) } else { Err(Reason::Absent) };
        assert_eq!([0x501, 0x500].map(|handle| of(handle, 3)), [expected; 2]);
        assert_eq!(
            with_state(|state| state.find(0x500 as ncclComm_t).and_then(|membership| membership.origin_key)),
            Some([9; 32])
        );
        if with_new {
            assert_eq!(of(0x502, 3), Ok(()));
        }
        (0x500..0x503).for_each(|handle| forget(handle as ncclComm_t));
    }
    // If the coordinator has no Dime, no rank waits.
    add(told(old, 0), 0x500);
    assert_eq!(await_outcome(0x500 as ncclComm_t, 3, || Duration::from_secs(60), || false), Err(Reason::Absent));
    forget(0x500 as ncclComm_t);
}

#[test]
fn an_impossible_rank_is_not_traced() {
    for (ranks, rank) in [(1, 0), (2, 2), (2, -1), (-3, 0)] {
        let mut handle = 0x400 as ncclComm_t;
        // SAFETY: the out pointer is ours.
        unsafe { arrive(&ids("impossible"), ranks, rank).made(&mut handle, ncclSuccess) };
        assert_eq!(of(0x400, 2), Err(Reason::Untraced), "{rank} of {ranks}");
    }
    assert!(arrive_from(0x400 as ncclComm_t, Some(b"of nobody")).0.is_none());
}
