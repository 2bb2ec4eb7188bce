//! What a simulated host holds, as lines.

use std::net::IpAddr;

use smartnat_core::model::{Family, Timestamp};
use smartnat_core::objects::nft::fields;
use smartnat_core::objects::{SetElement, SysctlKey};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::{HeldSet, HeldTable, Policy, XtFlavour};

use crate::host_text::table_lines;

/// Everything that a clean-up must restore.
pub(super) fn of(kernel: &SimKernel) -> Vec<String> {
    let mut lines = Vec::new();
    rules(kernel, &mut lines);
    for (name, set) in kernel.sets().iter() {
        lines.push(format!("set {name} {:?}", set.spec));
        // What expires was added at run time.
        let lasting = set.elements.iter().filter(|(_, expires)| expires.is_none());
        lines.extend(lasting.map(|(element, _)| format!("add {name} {element}")));
    }
    for family in Family::ALL {
        lines.extend(kernel.routing().rules(family).map(|rule| format!("{rule:?}")));
    }
    lines.extend(kernel.routing().routes().iter().map(|route| format!("{route:?}")));
    lines.extend(
        sysctls(kernel)
            .iter()
            .map(|key| format!("{key} = {}", kernel.sysctl(key).unwrap_or_default())),
    );
    lines.extend(table_lines(kernel.nft().ours().map(HeldTable::observe).as_ref()));
    lines
}

/// When the kernel ceases to hold a client to an endpoint, for each entry that does.
pub(super) fn held(kernel: &SimKernel, client: IpAddr) -> Vec<Timestamp> {
    let element = SetElement::Ip(client);
    let sets = kernel.sets().iter().filter(|(name, _)| name.0.starts_with("smartnat-f"));
    let of_sets = sets.filter_map(|(_, set)| *set.elements.get(&element)?);
    let map = if client.is_ipv4() { "affinity4" } else { "affinity6" };
    let table = kernel.nft().ours();
    let map = table.and_then(|table| table.set(&map.into()));
    let client = fields::address(client);
    let of_map = map.into_iter().flat_map(HeldSet::elements);
    let of_map = of_map.filter(|(key, _)| key.first.ends_with(&client));
    of_sets.chain(of_map.filter_map(|(_, element)| element.expires)).collect()
}

fn rules(kernel: &SimKernel, lines: &mut Vec<String>) {
    for table in kernel.xtables().tables() {
        let id = table.id();
        let place = format!("{} {}", id.family, id.table.name());
        for (hook, chain) in table.builtins() {
            // Where they are always there, an empty one says nothing.
            if kernel.xtables().flavour() == XtFlavour::Nft || chain.policy != Policy::Accept {
                lines.push(format!("{place} :{} {:?}", hook.name(), chain.policy));
            }
            let listed = chain.rules.iter().map(|r| format!("{place} -A {} {r:?}", hook.name()));
            lines.extend(listed);
        }
        for (name, rules) in table.chains() {
            lines.push(format!("{place} :{name}"));
            lines.extend(rules.iter().map(|rule| format!("{place} -A {name} {rule:?}")));
        }
    }
}

fn sysctls(kernel: &SimKernel) -> Vec<SysctlKey> {
    let of_family = |family| [SysctlKey::Forwarding(family), SysctlKey::MarkReflect(family)];
    let of_link = |(name, _): (&str, _)| {
        [
            SysctlKey::ReversePathFilter(name.into()),
            SysctlKey::SourceValidMark(name.into()),
            SysctlKey::ArpIgnore(name.into()),
            SysctlKey::ArpAnnounce(name.into()),
            SysctlKey::AcceptRouterAdvertisements(name.into()),
        ]
    };
    let general = Family::ALL.into_iter().flat_map(of_family).chain([SysctlKey::TcpMarkAccept]);
    general.chain(kernel.links().iter().flat_map(of_link)).collect()
}
