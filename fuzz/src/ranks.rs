//! What ranks that agree say about themselves.

use dime::comm::setup::hello::Hello;

/// The first message of a rank. Nothing differs between ranks but what must.
pub fn hello(rank: u32, ranks: u32) -> Hello {
    let own = |kind: u8| [kind << 4 | rank as u8; 16];
    Hello {
        round: 1,
        rank,
        ranks,
        build: 0x0123_4567_89ab_cdef,
        settings: 0xfedc_ba98_7654_3210,
        boot_id: [7; 16],
        process: own(1),
        device_uuid: own(2),
        arch: 90,
        multiprocessors: 132,
        shares_descriptors: true,
        socket: own(3),
        token: own(4),
        refusal: None,
        ipc_handle: [0; 64],
        most_ctas: None,
        tuning: 0,
    }
}
