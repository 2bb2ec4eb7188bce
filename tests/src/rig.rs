//! The real decisions on the real kernel in a lab's gateway, one step at a time: a step ends
//! when the gateway is idle, so that a test needs no waiting and no guessing.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use smartnat::lab::Lab;
use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{ClusterObject, GatewayConfig, HostState, IptablesFlavour, Timestamp};
use smartnat_core::ops::{Kernel, OpError, Transaction};
use smartnat_linux::{LinuxKernel, LinuxOptions, StateDir};
use smartnat_sim::topology::Topology;
use tempfile::TempDir;

use crate::Ruleset;
use crate::engine::{Engine, Machine, Step};

/// What a rig is built with.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// Settings; the pattern of the standard topologies' uplinks is set already.
    pub config: GatewayConfig,
    /// Which iptables.
    pub flavour: IptablesFlavour,
}

impl RigOptions {
    /// Defaults on this ruleset.
    pub fn new(ruleset: Ruleset) -> Self {
        let config =
            GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
        Self::with(config, ruleset)
    }

    /// These settings, but on this ruleset.
    pub fn with(config: GatewayConfig, ruleset: Ruleset) -> Self {
        let config = GatewayConfig { backend: ruleset.backend(), ..config };
        Self { config, flavour: ruleset.flavour() }
    }
}

enum Order {
    Inputs(Vec<Input>),
    ObserveHost(Vec<Input>),
    CleanUpBesideOthers,
}

/// A lab whose host `gateway` runs the gateway.
pub struct Rig {
    /// The lab.
    pub lab: Lab,
    options: RigOptions,
    state: TempDir,
    /// What the last start was given.
    objects: Vec<ClusterObject>,
    worker: Option<Worker>,
}

struct Worker {
    orders: mpsc::Sender<Order>,
    results: mpsc::Receiver<Step>,
    thread: JoinHandle<()>,
}

impl Rig {
    /// Builds the lab and the first sync, with these objects.
    pub fn start(
        topology: &Topology,
        options: RigOptions,
        objects: Vec<ClusterObject>,
    ) -> (Self, Step) {
        let lab = Lab::build(topology).expect("the lab is built");
        Self::start_in(lab, options, objects)
    }

    /// The same in a lab that a test has prepared.
    pub fn start_in(lab: Lab, options: RigOptions, objects: Vec<ClusterObject>) -> (Self, Step) {
        let mut rig = Self::idle_in(lab, options);
        let sync = rig.restart(objects);
        (rig, sync)
    }

    /// A lab without a running gateway yet.
    pub fn idle_in(lab: Lab, options: RigOptions) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        Self { lab, options, state, objects: Vec::new(), worker: None }
    }

    /// Ends the running gateway, as a kill would, and starts a new one that knows nothing.
    pub fn restart(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.kill();
        self.objects.clone_from(&objects);
        self.worker = Some(self.launch());
        self.order(Order::ObserveHost(vec![Input::Cluster(objects)]))
    }

    /// Restarts with other settings and the objects of the last start.
    pub fn reconfigure(&mut self, options: RigOptions) -> Step {
        let objects = self.objects.clone();
        self.restart_with(options, objects)
    }

    /// Restarts with other settings.
    pub fn restart_with(&mut self, options: RigOptions, objects: Vec<ClusterObject>) -> Step {
        self.options = options;
        self.restart(objects)
    }

    /// Restarts with other settings and other objects.
    pub fn reconfigure_with(&mut self, options: RigOptions, objects: Vec<ClusterObject>) -> Step {
        self.options = options;
        self.restart(objects)
    }

    /// Ends the running gateway; the dataplane goes on.
    pub fn kill(&mut self) {
        if let Some(Worker { orders, thread, .. }) = self.worker.take() {
            drop(orders);
            thread.join().expect("the gateway's thread ends without a panic");
        }
    }

    /// Changed objects.
    pub fn sync(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.order(Order::Inputs(vec![Input::Cluster(objects)]))
    }

    /// The host's links, addresses or routes changed.
    pub fn host_changed(&mut self) -> Step {
        self.order(Order::ObserveHost(vec![]))
    }

    /// Somebody changed the kernel.
    pub fn kernel_changed(&mut self) -> Step {
        self.order(Order::Inputs(vec![Input::KernelChanged]))
    }

    /// Removes everything of ours.
    pub fn clean_up(&mut self) -> Step {
        self.order(Order::Inputs(vec![Input::CleanUp]))
    }

    /// The same as `smartnat cleanup` does it: forwarding that others need stays on (T16).
    pub fn clean_up_beside_others(&mut self) -> Step {
        self.order(Order::CleanUpBesideOthers)
    }

    /// Removes everything of ours by a fresh instance, as the command does that cleans up.
    pub fn clean_up_anew(&mut self) -> Step {
        self.kill();
        self.worker = Some(self.launch());
        self.clean_up()
    }

    fn order(&mut self, order: Order) -> Step {
        let worker = self.worker.as_ref().expect("the gateway runs");
        worker.orders.send(order).expect("the gateway's thread lives");
        worker.results.recv().expect("the gateway's thread did not panic")
    }

    fn launch(&self) -> Worker {
        let (orders, inbox) = mpsc::channel::<Order>();
        let (outbox, results) = mpsc::channel();
        let options = self.options.clone();
        let state = StateDir::new(self.state.path());
        let thread = self
            .lab
            .spawn_thread("gateway", move || {
                let mut station = Station::open(options, state);
                for order in inbox {
                    if outbox.send(station.execute(order)).is_err() {
                        return;
                    }
                }
            })
            .expect("a thread in the gateway's namespace");
        Worker { orders, results, thread }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(Worker { orders, thread, .. }) = self.worker.take() {
            drop(orders);
            // A panic of it was told to whoever waited for its result.
            let _ = thread.join();
        }
    }
}

/// Gateway and kernel on a thread inside the namespace.
struct Station {
    engine: Engine,
    kernel: LinuxKernel,
}

impl Station {
    fn open(options: RigOptions, state: StateDir) -> Self {
        let linux = LinuxOptions {
            backend: options.config.backend,
            flavour: options.flavour,
            state_dir: state,
            ..LinuxOptions::default()
        };
        let kernel = LinuxKernel::open(linux).expect("the kernel is usable");
        Self { engine: Engine::new(Gateway::new(options.config)), kernel }
    }

    fn execute(&mut self, order: Order) -> Step {
        let inputs = match order {
            Order::Inputs(inputs) => inputs,
            Order::CleanUpBesideOthers => {
                let needed = self.kernel.forwarding_users();
                vec![Input::ForwardingNeeded(needed), Input::CleanUp]
            }
            Order::ObserveHost(inputs) => {
                let host: HostState = self.kernel.observe_host().expect("the host is readable");
                std::iter::once(Input::Host(host)).chain(inputs).collect()
            }
        };
        self.engine.follow(&mut self.kernel, inputs)
    }
}

impl Machine for LinuxKernel {
    fn now(&self) -> Timestamp {
        now()
    }

    fn kernel(&mut self) -> &mut dyn Kernel {
        self
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        Kernel::apply(self, transaction)
    }

    fn counts(&self) -> (u64, u64) {
        (self.operations(), self.processes_started())
    }
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Timestamp(u64::try_from(elapsed.as_millis()).expect("a clock before the year 500,000,000"))
}
