//! Several instances on one simulated API server: each with real gateway and coordination code,
//! a simulated kernel, a clock of its own and its own way to the server. Time is virtual.
//!
//! A judge looks on at every write and tells what must never happen.

mod comparison;
mod judge;
mod link;
mod process;
mod reader;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use comparison::{Conditions, MappingPicture, Picture};
pub use judge::{exposes, holds_anything_of};
pub use link::{Link, WriteFault};
use process::{Outside, Process, Request};
use smartnat_core::coordination::{
    ClusterEvent, CoordinationConfig, Input, LeaseName, Notice, Write, WriteError, WriteId, Written,
};
use smartnat_core::model::{Backend, ClusterObject, ClusterState, GatewayConfig, ObjectKey};
use smartnat_core::status::StatusReport;

use crate::SimKernel;
use crate::api_server::{ApiServer, Kind};
use crate::kernel::XtFlavour;

/// A write whose answer does not come is given up after this time.
const WRITE_TIMEOUT_MILLIS: u64 = 1_000;
/// How long a kernel takes for one answer, where nothing else is said.
const KERNEL_MILLIS: u64 = 3;
/// The uplink of each host.
pub const UPLINK: &str = "ext1";

/// What all instances have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Duration of a Lease.
    pub lease_millis: u64,
    /// So long a lapsed instance holds up a deletion.
    pub max_finalize_millis: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { lease_millis: 6_000, max_finalize_millis: 20_000 }
    }
}

/// A host with the program that runs on it, or not.
#[derive(Clone, Debug)]
struct Host {
    /// Name of the instance.
    instance: String,
    kernel: SimKernel,
    /// The kernel as it is after a boot.
    booted: SimKernel,
    link: Link,
    disk: Option<ClusterState>,
    process: Option<Process>,
    /// Counts starts, so that nobody gets the answers of a predecessor.
    starts: u64,
    /// Its power is on.
    powered: bool,
    /// How long its kernel takes for one answer.
    kernel_millis: u64,
}

/// A write of an instance, as the server took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it was begun.
    pub at: u64,
    /// By which host.
    pub host: String,
    /// What was asked for.
    pub write: Write,
}

/// Whose write it is.
#[derive(Clone, Debug)]
struct Sender {
    host: String,
    start: u64,
    id: WriteId,
    /// The host's clock when it was begun.
    clock: u64,
}

/// What is between an instance and the server.
#[derive(Clone, Debug)]
enum Travelling {
    Request(Sender, Write, Option<WriteFault>),
    Answer(Sender, Result<Written, WriteError>),
}

/// All hosts and the API server.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The API server.
    pub server: ApiServer,
    times: Times,
    backend: Backend,
    now: u64,
    hosts: BTreeMap<String, Host>,
    travelling: BTreeMap<(u64, u64), Travelling>,
    sequence: u64,
    sent: Vec<Sent>,
    judge: judge::Judge,
}

impl Fleet {
    /// No host yet, whose gateways will have this backend, and an empty API server.
    pub fn new(times: Times, backend: Backend) -> Self {
        Self {
            server: ApiServer::default(),
            times,
            backend,
            // Late enough that nothing begins before the beginning.
            now: 1_000,
            hosts: BTreeMap::new(),
            travelling: BTreeMap::new(),
            sequence: 0,
            sent: Vec::new(),
            judge: judge::Judge::new(times.max_finalize_millis),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A host with addresses on its uplink (with prefix lengths), whose clock is so far ahead of
    /// the others'; its program does not run yet.
    pub fn add_host<A: AsRef<str>>(
        &mut self,
        host: &str,
        instance: &str,
        addresses: &[A],
        ahead: u64,
    ) {
        let mut kernel = SimKernel::new(XtFlavour::Nft);
        for (link, of_link) in [("int0", &["10.0.0.2/24", "fd00::2/64"][..]), (UPLINK, &[])] {
            kernel.add_link(link);
            for address in of_link {
                kernel.add_address(link, address);
            }
        }
        for address in addresses {
            kernel.add_address(UPLINK, address.as_ref());
        }
        kernel.add_host_route("0.0.0.0/0", Some("10.0.0.1"), "int0");
        kernel.add_host_route("::/0", Some("fd00::1"), "int0");
        kernel.advance(self.now + ahead);
        let booted = kernel.clone();
        let new = Host {
            instance: instance.into(),
            kernel,
            booted,
            link: Link::default(),
            disk: None,
            process: None,
            starts: 0,
            powered: true,
            kernel_millis: KERNEL_MILLIS,
        };
        assert!(self.hosts.insert(host.into(), new).is_none(), "host {host} is there already");
    }

    /// Names of all hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// The way between a host and the API server.
    pub fn link(&mut self, host: &str) -> &mut Link {
        &mut self.host_mut(host).link
    }

    /// A host's kernel.
    pub fn kernel(&self, host: &str) -> &SimKernel {
        &self.hosts[host].kernel
    }

    /// A host's kernel, for interference.
    pub fn kernel_mut(&mut self, host: &str) -> &mut SimKernel {
        &mut self.host_mut(host).kernel
    }

    /// How long the kernel of a host takes for one answer from now on.
    pub fn pace(&mut self, host: &str, kernel_millis: u64) {
        self.host_mut(host).kernel_millis = kernel_millis;
    }

    /// Whether the program of a host runs.
    pub fn runs(&self, host: &str) -> bool {
        self.hosts[host].process.is_some()
    }

    /// What the gateway of a host last reported.
    pub fn report(&self, host: &str) -> Option<&StatusReport> {
        self.hosts[host].process.as_ref()?.report.as_ref()
    }

    /// What the program of a host told its operator since its start.
    pub fn notices(&self, host: &str) -> &[Notice] {
        self.hosts[host].process.as_ref().map_or(&[], |p| &p.notices)
    }

    /// What the program of a host told the cluster since its start.
    pub fn events(&self, host: &str) -> &[ClusterEvent] {
        self.hosts[host].process.as_ref().map_or(&[], |p| &p.events)
    }

    /// Whether the program of a host believes to be the leader.
    pub fn leads(&self, host: &str) -> bool {
        self.hosts[host].process.as_ref().is_some_and(|p| p.coordinator.leads())
    }

    /// All writes so far.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// What should never have happened, in the order in which it did.
    pub fn violations(&self) -> &[String] {
        self.judge.violations()
    }

    /// Somebody creates, changes or deletes an object.
    pub fn put(&mut self, object: ClusterObject) {
        self.server.set_time(self.now);
        self.server.put(object);
    }

    /// Somebody takes our finalizer away by force.
    pub fn strip_finalizer(&mut self, key: &ObjectKey) {
        self.server.set_time(self.now);
        self.server.strip_finalizer(key);
    }

    /// Another field manager owns an entry of `status.addresses` too.
    pub fn co_own_entry(&mut self, key: &ObjectKey, address: IpAddr, instance: &str) {
        self.server.set_time(self.now);
        self.server.co_own_entry(key, address, instance);
    }

    /// Somebody deletes a Lease.
    pub fn delete_lease(&mut self, name: &LeaseName) {
        self.server.set_time(self.now);
        self.server.delete_lease(name);
    }

    /// The program of a host starts; its first lists are so stale.
    pub fn start(&mut self, host: &str, steps_back: &BTreeMap<Kind, usize>) {
        let (now, times, backend) = (self.now, self.times, self.backend);
        let found = self.host_mut(host);
        if found.process.is_some() || !found.powered {
            return;
        }
        let coordination = CoordinationConfig {
            instance: found.instance.clone(),
            identity: host.to_owned(),
            lease_millis: times.lease_millis,
            max_finalize_millis: times.max_finalize_millis,
        };
        let gateway = gateway_config(&found.instance, backend);
        found.starts += 1;
        let disk = found.disk.as_ref();
        found.process = Some(Process::new(gateway, coordination, disk, now, steps_back));
    }

    /// The program of a host is killed. What it asked its kernel for last is done up to so many
    /// operations; what it sent is on its way still.
    pub fn kill(&mut self, host: &str, operations: u64) {
        let host = self.host_mut(host);
        if let Some(mut process) = host.process.take() {
            process.abandon_work(&mut host.kernel, operations);
        }
    }

    /// The program of a host ends in good order, as soon as its last write is answered.
    pub fn stop(&mut self, host: &str) {
        self.with_process(host, |process, out| {
            process.stopping = true;
            process.coordinate(Input::Stop, out)
        });
        self.end_stopped(host);
    }

    /// The power of a host fails: its kernel forgets everything.
    pub fn power_off(&mut self, host: &str) {
        self.kill(host, 0);
        let host = self.host_mut(host);
        host.powered = false;
        let now = host.kernel.now();
        host.kernel = host.booted.clone();
        host.kernel.advance(now.0 - host.booted.now().0);
    }

    /// The host boots, and its program starts.
    pub fn power_on(&mut self, host: &str) {
        self.host_mut(host).powered = true;
        self.start(host, &BTreeMap::new());
    }

    /// An address (with its prefix length) comes to the uplink of a host.
    pub fn add_address(&mut self, host: &str, address: &str) {
        for kernel in self.both_kernels(host) {
            kernel.add_address(UPLINK, address);
        }
        self.with_process(host, Process::host_changed);
    }

    /// An address goes from the uplink of a host.
    pub fn remove_address(&mut self, host: &str, address: IpAddr) {
        for kernel in self.both_kernels(host) {
            kernel.remove_address(UPLINK, address);
        }
        self.with_process(host, Process::host_changed);
    }

    fn both_kernels(&mut self, host: &str) -> [&mut SimKernel; 2] {
        let host = self.host_mut(host);
        [&mut host.kernel, &mut host.booted]
    }

    /// A watch of a host is cut. It lists again, from so many steps before the latest.
    pub fn cut(&mut self, host: &str, kind: Kind, steps_back: usize) {
        let now = self.now;
        if let Some(process) = &mut self.host_mut(host).process {
            process.cut(kind, now, steps_back);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.pass_until(at);
            self.step();
        }
        self.pass_until(end);
    }

    /// Lets time pass until something is so, but no longer than given; whether it is.
    pub fn advance_until(&mut self, millis: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + millis;
        while !is_so(self) {
            let Some(at) = self.next().filter(|at| *at <= end) else {
                self.pass_until(end);
                return is_so(self);
            };
            self.pass_until(at);
            self.step();
        }
        true
    }

    fn host_mut(&mut self, host: &str) -> &mut Host {
        self.hosts.get_mut(host).unwrap_or_else(|| panic!("there is no host {host}"))
    }

    fn next(&mut self) -> Option<u64> {
        let travelling = self.travelling.keys().next().map(|(at, _)| *at);
        let (now, server) = (self.now, &self.server);
        let processes = self.hosts.values_mut().filter_map(|host| {
            let (process, out) = host.parts(now, server)?;
            process.next(&out)
        });
        processes.chain(travelling).min()
    }

    fn pass_until(&mut self, at: u64) {
        let millis = at - self.now;
        if millis > 0 {
            for host in self.hosts.values_mut() {
                host.kernel.advance(millis);
            }
        }
        self.now = at;
        self.server.set_time(at);
    }

    /// All that is due now.
    fn step(&mut self) {
        while let Some(entry) = self.travelling.first_entry().filter(|e| e.key().0 <= self.now) {
            match entry.remove() {
                Travelling::Request(sender, write, fault) => self.arrive(sender, &write, fault),
                Travelling::Answer(sender, result) => self.answer(&sender, result),
            }
        }
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        for host in names {
            self.with_process(&host, Process::run);
        }
    }

    /// An answer is back, if its asker still runs.
    fn answer(&mut self, sender: &Sender, result: Result<Written, WriteError>) {
        if self.hosts[&sender.host].starts == sender.start {
            let answer = Input::Written(sender.id, result);
            self.with_process(&sender.host, |process, out| process.coordinate(answer, out));
            self.end_stopped(&sender.host);
        }
    }

    fn end_stopped(&mut self, host: &str) {
        let start = self.hosts[host].starts;
        let waits = self.travelling.values().any(|travelling| match travelling {
            Travelling::Request(sender, ..) | Travelling::Answer(sender, ..) => {
                sender.host == host && sender.start == start
            }
        });
        let host = self.host_mut(host);
        if host.process.as_ref().is_some_and(|p| p.stopping) && !waits {
            host.process = None;
        }
    }

    fn with_process(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Process, &mut Outside<'_>) -> Vec<Request>,
    ) {
        let now = self.now;
        let host = self.hosts.get_mut(name).unwrap_or_else(|| panic!("there is no host {name}"));
        let Some((process, mut out)) = host.parts(now, &self.server) else { return };
        let requests = act(process, &mut out);
        let wrong = std::mem::take(&mut process.wrong);
        self.judge.told(now, name, wrong);
        for request in requests {
            self.send(name, request);
        }
    }

    fn send(&mut self, name: &str, Request { id, write }: Request) {
        self.judge.write_begins(self.now, name, &self.hosts[name], &self.server, &write);
        self.sent.push(Sent { at: self.now, host: name.into(), write: write.clone() });
        let now = self.now;
        let host = self.host_mut(name);
        let fault = host.link.faults.pop_front();
        let lost = !host.link.reachable || fault == Some(WriteFault::Lost);
        let millis = host.link.request_millis;
        let (start, clock) = (host.starts, host.kernel.now().0);
        let sender = Sender { host: name.to_owned(), start, id, clock };
        if lost {
            self.travel(now + WRITE_TIMEOUT_MILLIS, Travelling::Answer(sender, no_answer()));
        } else {
            self.travel(now + millis, Travelling::Request(sender, write, fault));
        }
    }

    /// A request is at the server.
    fn arrive(&mut self, sender: Sender, write: &Write, fault: Option<WriteFault>) {
        let link = &self.hosts[&sender.host].link;
        let (reachable, millis) = (link.reachable, link.answer_millis);
        let (result, after) = if !reachable {
            (no_answer(), WRITE_TIMEOUT_MILLIS)
        } else if fault == Some(WriteFault::Refused) {
            (Err(WriteError::Refused("forbidden".into())), millis)
        } else if fault == Some(WriteFault::Overtaken) {
            (Err(WriteError::Conflict), millis)
        } else {
            let before = write.mapping().and_then(|key| self.server.mapping(key)).cloned();
            let result = self.server.write(write, sender.clock);
            let look = judge::Look { now: self.now, hosts: &self.hosts, server: &self.server };
            self.judge.written(look, write, before.as_ref(), &result);
            match fault {
                Some(WriteFault::AnswerLost) => (no_answer(), WRITE_TIMEOUT_MILLIS),
                _ => (result, millis),
            }
        };
        self.travel(self.now + after, Travelling::Answer(sender, result));
    }

    fn travel(&mut self, at: u64, what: Travelling) {
        self.sequence += 1;
        self.travelling.insert((at, self.sequence), what);
    }
}

impl Host {
    /// The program with what it sees, if it runs.
    fn parts<'a>(
        &'a mut self,
        now: u64,
        server: &'a ApiServer,
    ) -> Option<(&'a mut Process, Outside<'a>)> {
        let process = self.process.as_mut()?;
        let (link, kernel, disk) = (&self.link, &mut self.kernel, &mut self.disk);
        let kernel_millis = self.kernel_millis;
        Some((process, Outside { now, server, link, kernel, disk, kernel_millis }))
    }
}

fn no_answer() -> Result<Written, WriteError> {
    Err(WriteError::Transient("no answer".into()))
}

/// Settings of each gateway.
fn gateway_config(instance: &str, backend: Backend) -> GatewayConfig {
    GatewayConfig {
        instance: instance.into(),
        backend,
        uplink_names: vec![UPLINK.into()],
        ..GatewayConfig::default()
    }
}
