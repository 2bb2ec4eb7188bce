//! How the gateway of a story is set up, and on what kind of host it runs.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use smartnat_core::model::{Backend, Family, GatewayConfig};
use smartnat_core::objects::{
    ChainName, Route, SetElement, SetKind, SetSpec, SysctlKey, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::{Policy, XtFlavour};

use crate::common::{ip, lookup, net};

/// Masks of few and of many bits, together and scattered.
const MASKS: [u32; 5] = [0x00ff_0000, 0x1f, 0xf800_0000, 0x8421_1248, 0xffff_ffff];

/// Settings and host.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices")]
pub(crate) struct Setup {
    pub(crate) backend: Backend,
    /// Of ours, or of others' beside our nftables.
    pub(crate) flavour: XtFlavour,
    pub(crate) guard: bool,
    pub(crate) masquerade: bool,
    pub(crate) egress: bool,
    pub(crate) mark_mask: u32,
    /// The host's default route leads inside; without one, pods have a route of their own.
    pub(crate) default_route: bool,
    /// `ext3` has an address in the subnet of `ext1`.
    pub(crate) shared_subnet: bool,
    /// Others have chains, rules, sets and routes.
    pub(crate) others: bool,
}

pub(crate) fn setups() -> impl Strategy<Value = Setup> {
    let backend = select(vec![Backend::Iptables, Backend::Nftables]);
    let flags = prop::array::uniform5(any::<bool>());
    let mask = prop_oneof![
        4 => select(MASKS.to_vec()),
        1 => any::<u32>().prop_filter("at least 5 bits", |mask| mask.count_ones() >= 5),
    ];
    let rarely = || prop::bool::weighted(0.2);
    (backend, flags, mask, rarely(), rarely()).prop_map(
        |(
            backend,
            [legacy, no_masquerade, no_default, shared_subnet, others],
            mark_mask,
            open,
            egress,
        )| {
            let flavour = if legacy { XtFlavour::Legacy } else { XtFlavour::Nft };
            Setup {
                backend,
                flavour,
                guard: !open,
                masquerade: !no_masquerade,
                egress,
                mark_mask,
                default_route: !no_default,
                shared_subnet,
                others,
            }
        },
    )
}

impl Setup {
    pub(crate) fn config(&self) -> GatewayConfig {
        GatewayConfig {
            backend: self.backend,
            guard: self.guard,
            masquerade: self.masquerade,
            egress: self.egress,
            mark_mask: self.mark_mask,
            ..crate::common::config()
        }
    }

    /// The host before the gateway's first start.
    pub(crate) fn kernel(&self) -> SimKernel {
        let mut kernel = SimKernel::new(self.flavour);
        let mut links = vec![
            ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64"][..]),
            ("ext2", &["198.51.100.10/24", "2001:db8:2::10/64"]),
            ("int0", &["10.0.0.2/24", "fd00::2/64"]),
        ];
        if self.shared_subnet {
            links.push(("ext3", &["203.0.113.30/24"]));
        }
        for (name, addresses) in links {
            kernel.add_link(name);
            for address in addresses {
                kernel.add_address(name, address);
            }
        }
        let (v4, v6) =
            if self.default_route { ("0.0.0.0/0", "::/0") } else { ("10.1.0.0/16", "fd01::/64") };
        kernel.add_host_route(v4, Some("10.0.0.1"), "int0");
        kernel.add_host_route(v6, Some("fd00::1"), "int0");
        if self.others {
            add_others(&mut kernel, self.backend);
        }
        kernel
    }
}

/// What others have, as far as it does not concern the packets of a story.
fn add_others(kernel: &mut SimKernel, backend: Backend) {
    let nat = XtTableId { family: Family::V4, table: XtTable::Nat };
    let kube = ChainName("KUBE-SERVICES".into());
    let ops = vec![NetworkOp::PutChain { chain: kube.clone(), rules: Vec::new() }];
    let by_others = Transaction { domain: Domain::Xtables(nat), ops };
    kernel.interfere(&by_others).expect("others may have chains");
    kernel.foreign_append(nat, "PREROUTING", &XtRule::new(XtTarget::Jump(kube)));
    let theirs = XtRule { source: Some(net("100.64.0.0/10")), ..XtRule::new(XtTarget::Masquerade) };
    kernel.foreign_append(nat, "POSTROUTING", &theirs);
    let filter = |family| XtTableId { family, table: XtTable::Filter };
    // No accept of a table of nftables overrules what others drop.
    if backend == Backend::Iptables {
        kernel.foreign_policy(filter(Family::V4), "FORWARD", Policy::Drop);
    }
    kernel.foreign_append(filter(Family::V6), "INPUT", &XtRule::new(XtTarget::Accept));
    let spec =
        SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 100 };
    kernel.foreign_set("others", spec, &[SetElement::Ip(ip("192.0.2.1"))]);
    kernel.foreign_rule(lookup(Family::V4, 100, 100), 4);
    // One of our priorities, but not ours.
    kernel.foreign_rule(lookup(Family::V4, 20_001, 100), 4);
    let route = Route {
        table: 100,
        destination: net("100.64.0.0/10"),
        gateway: Some(ip("10.0.0.9")),
        interface: "int0".into(),
        onlink: false,
    };
    kernel.foreign_route(route, 4);
    kernel
        .write_sysctl(&SysctlKey::ReversePathFilter("ext1".into()), "1")
        .expect("the link exists");
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: bool| if on { "on" } else { "off" };
        let flavour = if self.flavour == XtFlavour::Nft { "nft" } else { "legacy" };
        if self.backend == Backend::Nftables {
            f.write_str("nftables beside ")?;
        }
        write!(f, "iptables-{flavour}, mark mask {:#x}, guard {}", self.mark_mask, on(self.guard))?;
        write!(f, ", masquerade {}, egress {}", on(self.masquerade), on(self.egress))?;
        let default = if self.default_route { "a default route" } else { "no default route" };
        write!(f, "; uplinks ext1, ext2; {default} on int0")?;
        if self.shared_subnet {
            f.write_str("; uplink ext3 in the subnet of ext1")?;
        }
        f.write_str(if self.others { "; others have rules too" } else { "" })
    }
}
