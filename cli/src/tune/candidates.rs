//! Which kernels and grids are tried for a size: a coarse set, then the neighbours of the best.

use dime::kernel::layout::MAX_STAGES;
use dime::kernel::{KERNELS, Kernel, Packet, Tile};
use dime::nccl::{DataType, RedOp};
use dime::route::tuning::{LEAST_TILE, MOST_TILE, Tuning, TuningRow};
use dime::route::{Agreed, LaunchPlan, Shape, TypeKind, route};

/// Most candidates of a size in one run, so that the smallest size has a message for each.
pub const MOST_CANDIDATES: usize = 14;

const KIB: usize = 1 << 10;

/// A kernel and a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub kernel: Kernel,
    pub blocks: u32,
    pub threads: u32,
    pub tile: u32,
    pub stages: u32,
}

/// For what candidates are sought: a kind of type, on so many ranks.
#[derive(Clone, Copy)]
pub struct Place {
    pub ranks: usize,
    pub arch: u32,
    pub multiprocessors: u32,
    pub kind: TypeKind,
}

impl Candidate {
    /// A row that chooses it for all messages of a kind of type.
    pub fn row(&self, kind: TypeKind) -> TuningRow {
        TuningRow {
            kernel: Some(self.kernel),
            blocks: Some(self.blocks),
            threads: Some(self.threads),
            tile: Some(self.tile),
            stages: Some(self.stages),
            kind: Some(kind),
            ..TuningRow::ANY
        }
    }

    /// In a table.
    pub fn grid_text(&self) -> String {
        match self.kernel.entry().tile {
            Tile::OfRow => format!("{} x {}, tile {}", self.blocks, self.threads, self.tile),
            Tile::PerStage => format!("{} x {}, {} stages", self.blocks, self.threads, self.stages),
        }
    }
}

impl Place {
    /// What a row makes of a message, or what the built-in rows do. None: the kernel cannot carry it.
    fn plan(&self, row: Option<TuningRow>, bytes: usize) -> Option<LaunchPlan> {
        let file = row.and_then(|row| Tuning { rows: vec![row] }.tuned(self.arch, self.ranks));
        let agreed = Agreed {
            threshold_setting: Some(usize::MAX),
            // A few hundred small ones in the life of the tool.
            tuned: file.map(|tuned| &*Box::leak(Box::new(tuned))),
            ..Agreed::without_settings(self.ranks, self.arch, self.multiprocessors)
        };
        let datatype = if self.kind.is_float() { DataType::Bfloat16 } else { DataType::Int32 };
        let shape = Shape::parse(bytes / datatype.bytes(), datatype as i32, RedOp::Sum as i32).ok()?;
        route(&agreed, &shape).ok()
    }

    /// What the built-in rows do with a message.
    pub fn built_in(&self, bytes: usize) -> Option<Candidate> {
        let plan = self.plan(None, bytes)?;
        Some(Candidate {
            kernel: plan.kernel,
            blocks: plan.blocks,
            threads: plan.threads,
            tile: (1 << plan.tile_log2).clamp(LEAST_TILE, MOST_TILE),
            stages: plan.stages.into(),
        })
    }

    /// Those whose launches differ from each other and from that of the built-in row.
    fn distinct(&self, bytes: usize, candidates: impl IntoIterator<Item = Candidate>) -> Vec<Candidate> {
        let mut plans: Vec<LaunchPlan> = self.plan(None, bytes).into_iter().collect();
        let mut kept = Vec::new();
        for candidate in candidates {
            let Some(plan) = self.plan(Some(candidate.row(self.kind)), bytes) else { continue };
            if plan.kernel == candidate.kernel && !plans.contains(&plan) {
                plans.push(plan);
                kept.push(candidate);
            }
        }
        kept.truncate(MOST_CANDIDATES - 1);
        kept
    }

    /// The coarse set for a size, without the built-in row.
    pub fn coarse(&self, bytes: usize) -> Vec<Candidate> {
        // Blocks and threads, by the sizes up to which they are tried.
        let grids: [(usize, [(u32, u32); 3]); 4] = [
            (4 * KIB, [(4, 256), (8, 128), (16, 256)]),
            (64 * KIB, [(32, 128), (32, 256), (64, 256)]),
            (1024 * KIB, [(64, 256), (64, 512), (128, 256)]),
            (usize::MAX, [(64, 512), (128, 256), (128, 512)]),
        ];
        let grids = grids.into_iter().find(|(up_to_bytes, _)| bytes <= *up_to_bytes).map_or([(64, 256); 3], |it| it.1);
        let kernels = KERNELS.into_iter().filter(|kernel| self.is_worth_trying(*kernel, bytes));
        let all =
            kernels.flat_map(|kernel| grids.map(|(blocks, threads)| self.on_grid(kernel, bytes, blocks, threads)));
        self.distinct(bytes, all)
    }

    /// The neighbours of a candidate: half and twice each of its numbers. The candidate itself comes first.
    pub fn fine(&self, bytes: usize, best: Candidate) -> Vec<Candidate> {
        let mut all = vec![best];
        let scales: [fn(u32) -> u32; 2] = [|number| number / 2, |number| number * 2];
        for scale in scales {
            let scaled = |number, least, most| scale(number).clamp(least, most);
            all.push(Candidate { blocks: scaled(best.blocks, 1, 256), ..best });
            all.push(Candidate { threads: scaled(best.threads, 32, 512).next_multiple_of(32), ..best });
            match best.kernel.entry().tile {
                Tile::OfRow => all.push(Candidate { tile: scaled(best.tile, LEAST_TILE, MOST_TILE), ..best }),
                Tile::PerStage => all.push(Candidate { stages: scaled(best.stages, 1, MAX_STAGES), ..best }),
            }
        }
        self.distinct(bytes, all)
    }

    /// A tile such that every block has one, if the message is large enough.
    fn on_grid(&self, kernel: Kernel, bytes: usize, blocks: u32, threads: u32) -> Candidate {
        let packets = bytes.div_ceil(kernel.packet_bytes());
        let chunk = if kernel.is_two_shot() { packets.div_ceil(self.ranks) } else { packets };
        let tile = (chunk as u32 / blocks).max(1).next_power_of_two().clamp(32, 512);
        Candidate { kernel, blocks, threads, tile, stages: 1 }
    }

    /// Leaves out kernels where they are known to be far from the fastest: one-shots send (ranks - 1) times the message,
    /// and LL packets take twice the bytes.
    fn is_worth_trying(&self, kernel: Kernel, bytes: usize) -> bool {
        let entry = kernel.entry();
        let sent_bytes = if kernel.is_two_shot() { 2 * bytes } else { (self.ranks - 1) * bytes };
        let by_packet = match entry.packet {
            Packet::Ll => sent_bytes <= 1024 * KIB,
            Packet::Sentinel => bytes >= 2 * KIB,
            Packet::Flagged => bytes >= 256 * KIB,
        };
        let by_exchanges = if kernel.is_two_shot() { bytes >= 8 * KIB } else { self.ranks == 2 || bytes <= 512 * KIB };
        by_packet && by_exchanges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> impl Iterator<Item = Place> {
        let kinds = [TypeKind::FloatSum, TypeKind::Integer];
        (2..=8).flat_map(move |ranks| kinds.map(|kind| Place { ranks, arch: 90, multiprocessors: 132, kind }))
    }

    #[test]
    fn every_size_has_candidates_that_carry_it_and_differ() {
        for place in places() {
            for bytes in (8..=25).map(|shift| 1 << shift) {
                let built_in = place.built_in(bytes).expect("every size");
                let coarse = place.coarse(bytes);
                // A small message keeps a block or two busy, so most grids are one.
                let is_enough = bytes < 32 * KIB || coarse.len() >= 2;
                assert!(is_enough && coarse.len() < MOST_CANDIDATES, "{} {bytes}: {coarse:?}", place.ranks);
                for best in coarse.iter().chain([&built_in]) {
                    let fine = place.fine(bytes, *best);
                    assert!(fine.len() < MOST_CANDIDATES, "{} {bytes}: {best:?}", place.ranks);
                    let carries = |it: &Candidate| place.kind.is_float() || it.kernel.entry().packet.carries_integers();
                    assert!(fine.iter().chain(&coarse).all(carries));
                }
            }
        }
    }

    #[test]
    fn the_neighbours_differ_in_one_number() {
        let place = places().last().expect("places");
        let best = Candidate { kernel: Kernel::TwoShotLl, blocks: 32, threads: 128, tile: 64, stages: 1 };
        let fine = place.fine(1 << 18, best);
        assert_eq!(fine[0], best);
        assert!(fine.contains(&Candidate { blocks: 16, ..best }) && fine.contains(&Candidate { tile: 128, ..best }));
        assert!(fine.contains(&Candidate { threads: 256, ..best }), "{fine:?}");
    }
}
