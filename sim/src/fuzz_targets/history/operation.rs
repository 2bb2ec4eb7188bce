//! What may happen in a history.

use smartnat_core::dataplane::Dataplane;
use smartnat_core::flows::Permissions;
use smartnat_core::gateway::Input;
use smartnat_core::model::{Backend, Family};
use smartnat_core::objects::{Flow, FlowKey, FlowTuple, Layer4};
use smartnat_core::ops::OpErrorClass;

use super::super::choices::Choices;
use super::super::{host, interference, objects};
use super::run::Run;
use crate::kernel::{Fault, OpKind, OpMatcher};

const CLASSES: [OpErrorClass; 6] = [
    OpErrorClass::Transient,
    OpErrorClass::NotFound,
    OpErrorClass::Exists,
    OpErrorClass::Busy,
    OpErrorClass::Invalid,
    OpErrorClass::Denied,
];
const KINDS: [OpKind; 16] = [
    OpKind::PutChain,
    OpKind::DeleteChain,
    OpKind::InsertJump,
    OpKind::DeleteJump,
    OpKind::DeleteEmptyBuiltin,
    OpKind::CreateSet,
    OpKind::AddElement,
    OpKind::DeleteElement,
    OpKind::DestroySet,
    OpKind::AddRule,
    OpKind::DeleteRule,
    OpKind::PutRoute,
    OpKind::DeleteRoute,
    OpKind::SetSysctl,
    OpKind::ForgetSysctl,
    OpKind::DeleteFlow,
];

/// One operation of a history.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Objects of the cluster change.
    ClusterChanges,
    /// Links, addresses or routes change, and the gateway may hear of it.
    HostChanges,
    /// Others spoil what is ours.
    OursIsSpoiled,
    /// Others change what is theirs.
    TheirsChanges,
    /// A client or a pod opens a connection that is permitted.
    Connects,
    /// Operations or reads are to fail.
    Fails,
    /// Operations work again.
    Works,
    /// The program dies after some more operations.
    Crashes,
    /// The program starts anew.
    Restarts,
    /// Time passes.
    TimePasses,
    /// The gateway gets some more half steps.
    Proceeds,
    /// The kernel notifies of a change.
    KernelNotifies,
    /// Everything is to be removed.
    CleansUp,
}

const OPERATIONS: [Operation; 16] = [
    Operation::ClusterChanges,
    Operation::HostChanges,
    Operation::OursIsSpoiled,
    Operation::TimePasses,
    Operation::ClusterChanges,
    Operation::HostChanges,
    Operation::Connects,
    Operation::Fails,
    Operation::Works,
    Operation::Crashes,
    Operation::Restarts,
    Operation::TheirsChanges,
    Operation::Proceeds,
    Operation::KernelNotifies,
    Operation::Connects,
    Operation::CleansUp,
];

/// The next operation happens.
pub(super) fn play(c: &mut Choices<'_>, run: &mut Run) {
    let operation = c.pick(&OPERATIONS);
    match operation {
        Operation::ClusterChanges => {
            let objects = objects::change(c);
            run.tell(format_args!("cluster: {objects:?}"));
            let steps = steps(c);
            run.change(objects, steps);
        }
        Operation::HostChanges => {
            let what = host::happens(c, &mut run.driver.kernel);
            let told = !c.rarely(8);
            run.tell(format_args!("host: {what}, told: {told}"));
            if told {
                let steps = steps(c);
                run.host_changed(steps);
            }
        }
        Operation::OursIsSpoiled | Operation::TheirsChanges => {
            let kernel = &mut run.driver.kernel;
            let what = match operation {
                Operation::OursIsSpoiled => interference::with_ours(c, kernel),
                _ => interference::with_theirs(c, kernel),
            };
            run.tell(format_args!("others: {what}"));
            if c.flag() {
                let steps = steps(c);
                run.give(Input::KernelChanged, steps);
            }
        }
        Operation::Connects => connects(c, run),
        Operation::Fails => fails(c, run),
        Operation::Works => {
            run.tell("operations work again");
            run.driver.kernel.clear_faults();
        }
        Operation::Crashes => {
            let after = c.below(32) as u64;
            run.tell(format_args!("crash after {after} operations"));
            run.driver.kernel.crash_after(after);
        }
        Operation::Restarts => {
            match c.below(4) {
                1 => run.config.masquerade ^= true,
                2 => run.config.egress ^= true,
                3 => run.config.guard ^= true,
                _ => {}
            }
            run.tell("restart");
            run.restart();
        }
        Operation::TimePasses => {
            let millis = c.pick(&[1_000, 5_000, 1, 40_000]);
            run.tell(format_args!("{millis} ms pass"));
            run.pass(millis);
        }
        Operation::Proceeds => run.proceed(Some(c.below(16))),
        Operation::KernelNotifies => {
            run.tell("the kernel notifies");
            let steps = steps(c);
            run.give(Input::KernelChanged, steps);
        }
        Operation::CleansUp => {
            run.tell("clean up");
            run.cleaning = true;
            let steps = steps(c);
            run.give(Input::CleanUp, steps);
        }
    }
}

/// How far the gateway gets before the next operation; mostly to its rest.
fn steps(c: &mut Choices<'_>) -> Option<usize> {
    c.flag().then(|| c.below(24))
}

fn fails(c: &mut Choices<'_>, run: &mut Run) {
    let class = c.pick(&CLASSES);
    if c.rarely(4) {
        let times = 1 + c.below(4);
        run.tell(format_args!("{times} reads fail: {class}"));
        run.driver.kernel.fail_reads(times, class);
        return;
    }
    let matcher = if c.flag() {
        OpMatcher::kind(of_backend(c.pick(&KINDS), run.config.backend))
    } else {
        OpMatcher::any()
    };
    let (skip, times) = (c.below(16) as u64, c.maybe(&[1, 2, 8]));
    run.tell(format_args!("after {skip}, {times:?} times {matcher:?} fails: {class}"));
    run.driver.kernel.inject(Fault { matcher, skip, times, class });
}

/// With nftables all operations on chains and sets are of one kind.
fn of_backend(kind: OpKind, backend: Backend) -> OpKind {
    let of_host = matches!(
        kind,
        OpKind::AddRule
            | OpKind::DeleteRule
            | OpKind::PutRoute
            | OpKind::DeleteRoute
            | OpKind::SetSysctl
            | OpKind::ForgetSysctl
            | OpKind::DeleteFlow
    );
    if of_host || backend != Backend::Nftables { kind } else { OpKind::Nft }
}

/// A conntrack entry as a packet makes one that the dataplane of now lets pass.
fn connects(c: &mut Choices<'_>, run: &mut Run) {
    let Some(dataplane) = run.driver.gateway.dataplane() else { return };
    let flow = if c.flag() { egress(c, dataplane) } else { translated(c, dataplane) };
    let Some(flow) = flow else { return };
    if Permissions::new(dataplane).permits(&flow) {
        run.driver.kernel.add_flow(flow.key.original, flow.reply, flow.mark);
        run.tell(format_args!("connects: {flow:?}"));
    }
}

fn translated(c: &mut Choices<'_>, dataplane: &Dataplane) -> Option<Flow> {
    let planes: Vec<_> = dataplane.mappings.values().collect();
    let plane = planes.get(c.below(planes.len().max(1)))?;
    let addresses: Vec<_> = plane.addresses.iter().copied().collect();
    let address = *addresses.get(c.below(addresses.len().max(1)))?;
    let port = plane.ports.get(c.below(plane.ports.len().max(1)))?;
    let listed: Vec<_> =
        port.endpoints.get(&Family::of(&address))?.listed.keys().copied().collect();
    let endpoint = *listed.get(c.below(listed.len().max(1)))?;
    let offset = u16::try_from(c.below(3)).ok()?;
    let external = port.ports.first().checked_add(offset).filter(|p| port.ports.contains(*p))?;
    let source = if address.is_ipv4() { "192.0.2.5" } else { "2001:db8:c::5" }.parse().ok()?;
    let uplink = dataplane.uplinks.values().find(|u| u.addresses.contains(&address))?;
    let tuple = |from: (_, u16), to: (_, u16)| FlowTuple {
        source: from.0,
        destination: to.0,
        protocol: port.protocol.number(),
        layer4: Layer4::Ports { source: from.1, destination: to.1 },
    };
    let target = endpoint.port.checked_add(offset)?;
    let original = tuple((source, 40_000), (address, external));
    Some(Flow {
        key: FlowKey { original, id: 0 },
        reply: tuple((endpoint.address, target), (source, 40_000)),
        mark: dataplane.marks.ours | dataplane.marks.uplink_mark(uplink.number),
    })
}

fn egress(c: &mut Choices<'_>, dataplane: &Dataplane) -> Option<Flow> {
    let planes: Vec<_> = dataplane.egress.iter().collect();
    let (address, plane) = planes.get(c.below(planes.len().max(1)))?;
    let pods: Vec<_> = plane.pods.iter().copied().collect();
    let pod = *pods.get(c.below(pods.len().max(1)))?;
    let uplink = dataplane.uplinks.get(&plane.uplink)?;
    let outside = if address.is_ipv4() { "192.0.2.9" } else { "2001:db8:c::9" }.parse().ok()?;
    let ports = |source, destination| Layer4::Ports { source, destination };
    let marks = dataplane.marks;
    Some(Flow {
        key: FlowKey {
            original: FlowTuple {
                source: pod,
                destination: outside,
                protocol: 6,
                layer4: ports(40_000, 443),
            },
            id: 0,
        },
        reply: FlowTuple {
            source: outside,
            destination: **address,
            protocol: 6,
            layer4: ports(443, 40_000),
        },
        mark: marks.ours | marks.egress | marks.uplink_mark(uplink.number),
    })
}
