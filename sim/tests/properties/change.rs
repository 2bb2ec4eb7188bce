//! P12, P13: what packets meet in the middle of a change.

use proptest::prelude::*;
use smartnat_core::gateway::Input;
use smartnat_core::objects::KernelState;
use smartnat_core::status::StatusReport;
use smartnat_sim::oracle::{Expectation, Oracle};
use smartnat_sim::walk::Random;
use smartnat_sim::{Driver, SimHost, SimKernel};

use crate::common::{held, run};
use crate::objects::cluster;
use crate::probes;
use crate::setup::setups;
use crate::story::{Step, Story};
use crate::traffic::{Connection, Judge};
use crate::world::World;
use crate::{cases, told};

/// First packets at every prefix.
const PROBES: usize = 6;
/// Connections that stand when a change begins.
const CONNECTIONS: usize = 4;

/// A gateway in sync with one cluster, and the change to another.
fn changes() -> impl Strategy<Value = Story> {
    (setups(), cluster(), cluster(), any::<u16>()).prop_map(|(setup, before, after, seed)| {
        let steps = vec![Step::Cluster(before), Step::Cluster(after)];
        Story { setup, steps, seed: seed.into() }
    })
}

proptest! {
    #![proptest_config(cases(4))]

    /// P12: the program may die after every operation of a change. At every prefix first packets
    /// meet the old or the new (P1, P2), and a new program recovers from observation alone.
    #[test]
    fn p12_a_crash_after_every_operation(story in changes()) {
        told(&story, || {
            let change = Change::of(&story)?;
            let mut after = 0;
            change.at_every_prefix(|kernel, random| {
                after += 1;
                let dies = |what: String| format!("P12: it dies after {after} operations: {what}");
                change.judge_probes(kernel, random).map_err(dies)?;
                let objects = change.world.objects.iter().chain(&change.after).cloned();
                let mut successor = Driver::new(story.setup.config(), kernel.clone());
                successor.start(objects.collect());
                change.assert_reached(&successor).map_err(dies)
            })
        })?;
    }

    /// P13 (T18): make before break. At every prefix of a change first packets meet the old or the
    /// new, and connections that both permit go on.
    #[test]
    fn p13_make_before_break(story in changes()) {
        told(&story, || {
            let mut change = Change::of(&story)?;
            let connections = change.open_connections()?;
            let mut after = 0;
            change.at_every_prefix(|kernel, random| {
                after += 1;
                let within = |what: String| format!("P13: after {after} operations: {what}");
                change.judge_probes(kernel, random).map_err(within)?;
                let mut host = SimHost::new(kernel.clone(), 7);
                let kept = connections
                    .iter()
                    .filter(|c| change.oracles.iter().all(|oracle| oracle.permits(&c.known)));
                for connection in kept {
                    connection.talk(&mut host).map_err(within)?;
                }
                Ok(())
            })
        })?;
    }
}

/// A change that has not begun.
struct Change {
    world: World,
    after: Vec<smartnat_core::model::ClusterObject>,
    seed: u64,
    /// Before and after.
    oracles: [Oracle; 2],
    /// Where it leads without a fault.
    end: (KernelState, Option<StatusReport>),
}

impl Change {
    fn of(story: &Story) -> Result<Self, String> {
        let [before, Step::Cluster(after)] = &story.steps[..] else {
            return Err("a story of two changes".into());
        };
        let first = Story { steps: vec![before.clone()], ..story.clone() };
        let world = World::after(&first)?;
        let old = world.oracle();
        let whole = World::after_in_silence(story);
        let end = (held(&whole.driver.kernel), whole.driver.gateway.status().cloned());
        let oracles = [old, whole.oracle()];
        Ok(Self { world, after: after.clone(), seed: story.seed, oracles, end })
    }

    /// Applies it one operation after the other.
    fn at_every_prefix(
        &self,
        mut between: impl FnMut(&SimKernel, &mut Random) -> Result<(), String>,
    ) -> Result<(), String> {
        let Driver { mut gateway, mut kernel, .. } = self.world.driver.clone();
        let mut outcome = Ok(());
        let mut random = Random::new(self.seed);
        gateway.handle_input(kernel.now(), Input::Cluster(self.after.clone()));
        kernel.take_log();
        run(&mut gateway, &mut kernel, |kernel| {
            if outcome.is_ok() {
                outcome = between(kernel, &mut random);
            }
        });
        outcome
    }

    fn judge_probes(&self, kernel: &SimKernel, random: &mut Random) -> Result<(), String> {
        let judge = Judge { oracles: &self.oracles, numbers: None };
        let mut host = SimHost::new(kernel.clone(), random.next_64());
        for (n, probe) in (1..).zip(probes::some(PROBES, random)) {
            if probes::can_come(probe, kernel) {
                judge.probe(&mut host, probe, 30_000 + n)?;
            }
        }
        Ok(())
    }

    fn open_connections(&mut self) -> Result<Vec<Connection>, String> {
        let judge = Judge { oracles: &self.oracles[..1], numbers: None };
        let kernel = self.world.driver.kernel.clone();
        let let_in = probes::CONNECTIONS.iter().filter(|probe| {
            probes::can_come(probe, &kernel)
                && matches!(self.oracles[0].expect(probe), Expectation::Translated { .. })
        });
        let let_in: Vec<_> = let_in.collect();
        let every = let_in.len().div_ceil(CONNECTIONS).max(1);
        let mut host = SimHost::new(kernel, self.seed);
        let mut open = Vec::new();
        for (n, probe) in (1..).zip(let_in.into_iter().step_by(every)) {
            open.extend(judge.probe(&mut host, probe, 20_000 + n)?);
        }
        self.world.driver.kernel = host.kernel;
        Ok(open)
    }

    fn assert_reached(&self, driver: &Driver) -> Result<(), String> {
        let (state, status) = &self.end;
        if held(&driver.kernel) != *state {
            return Err(format!("{:#?}\ninstead of {state:#?}", held(&driver.kernel)));
        }
        let found = driver.gateway.status();
        if found == status.as_ref() { Ok(()) } else { Err(format!("status {found:#?}")) }
    }
}
