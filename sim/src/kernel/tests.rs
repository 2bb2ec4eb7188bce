mod bookkeeping;
mod conntrack;
mod faults;
mod foreign;
mod hooks;
mod host;
mod ipset;
mod nft;
mod routing;
mod rules;
mod sysctl;
mod xtables;

use smartnat_core::model::Family;
use smartnat_core::objects::{
    ChainName, KernelState, ObservationScope, SetKind, SetName, SetSpec, XtRule, XtTable,
    XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpError, OpErrorClass, Transaction};

use super::{SimKernel, XtFlavour};

fn table(table: XtTable) -> XtTableId {
    XtTableId { family: Family::V4, table }
}

fn kernel() -> SimKernel {
    SimKernel::new(XtFlavour::Nft)
}

fn both_flavours() -> [SimKernel; 2] {
    [SimKernel::new(XtFlavour::Nft), SimKernel::new(XtFlavour::Legacy)]
}

/// A kernel with `ext1`, which has addresses of both families, and `ext2` without any.
fn host() -> SimKernel {
    let mut kernel = kernel();
    kernel.add_link("ext1");
    kernel.add_address("ext1", "192.0.2.10/24");
    kernel.add_address("ext1", "2001:db8::10/64");
    kernel.add_link("ext2");
    kernel
}

fn chain(name: &str) -> ChainName {
    ChainName(name.into())
}

fn jump(name: &str) -> XtRule {
    XtRule::new(XtTarget::Jump(chain(name)))
}

fn accept() -> XtRule {
    XtRule::new(XtTarget::Accept)
}

fn put(name: &str, rules: &[XtRule]) -> NetworkOp {
    NetworkOp::PutChain { chain: chain(name), rules: rules.to_vec() }
}

fn delete(name: &str) -> NetworkOp {
    NetworkOp::DeleteChain { chain: chain(name) }
}

fn set_spec(kind: SetKind) -> SetSpec {
    SetSpec { kind, family: Family::V4, timeout: None, max_elements: 65_536 }
}

fn create_set(name: &str, spec: SetSpec) -> NetworkOp {
    NetworkOp::CreateSet { name: SetName(name.into()), spec }
}

fn apply(kernel: &mut SimKernel, domain: Domain, ops: Vec<NetworkOp>) -> Result<(), OpError> {
    kernel.apply(&Transaction { domain, ops })
}

fn apply_to(kernel: &mut SimKernel, id: XtTableId, ops: Vec<NetworkOp>) -> Result<(), OpError> {
    apply(kernel, Domain::Xtables(id), ops)
}

fn class<T>(result: Result<T, OpError>) -> Option<OpErrorClass> {
    result.err().map(|error| error.class)
}

/// Our tables are 7001 to 7008, our priorities 20000 to 20003.
fn scope() -> ObservationScope {
    ObservationScope {
        table_base: 7000,
        table_count: 8,
        rule_priority: 20_000,
        ..ObservationScope::default()
    }
}

fn observe(kernel: &mut SimKernel) -> KernelState {
    kernel.observe(&scope()).expect("no fault is injected")
}
