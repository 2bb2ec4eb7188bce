//! Work is proportional to the change: however many Mappings there are, a change of one asks the
//! kernel for the same, and what is told of the others is not made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use smartnat_core::gateway::{Input, Output};
use smartnat_core::model::{Backend, ClusterObject, ObjectKey, Protocol};
use smartnat_core::objects::Netfilter;
use smartnat_core::status::MappingStatus;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};
use smartnat_sim::{Driver, SimKernel};

use crate::common::*;

/// Mappings beside the one that changes, on another address.
const OTHERS: [u16; 2] = [1, 200];

/// What the Mapping that changes and its Service are like.
#[derive(Clone, Copy)]
struct One {
    pods: &'static [&'static str],
    source: &'static str,
    /// First and last external port; the Service's target is 8080.
    ports: (u16, Option<u16>),
    affinity: Option<u32>,
    masquerade: bool,
    egress: bool,
}

const FIRST: One = One {
    pods: &["10.1.0.1", "10.1.0.2"],
    source: "192.0.2.0/24",
    ports: (80, None),
    affinity: None,
    masquerade: true,
    egress: false,
};

impl One {
    fn objects(&self) -> Vec<ClusterObject> {
        let mut echo = service("one").port("http", Protocol::Tcp, 80, 8080);
        if let Some(seconds) = self.affinity {
            echo = echo.affinity(seconds);
        }
        let mut objects = self.pods.iter().fold(echo, |echo, pod| echo.ready(pod)).build();
        let (first, last) = self.ports;
        let one = mapping("one").created(1).address(EXT2).source(self.source);
        let one = one.port(Protocol::Tcp, first, last, Some("http"));
        objects.push(one.masquerade(self.masquerade).egress(self.egress).build());
        objects
    }
}

fn other(number: u16) -> Vec<ClusterObject> {
    let name = format!("other{number}");
    let (port, pod) = (10_000 + number, format!("10.1.{}.{}", 1 + number / 250, 1 + number % 250));
    let mut objects = service(&name).port("http", Protocol::Tcp, port, 8080).ready(&pod).build();
    objects.push(mapping(&name).created(1).address(EXT1).source("192.0.2.0/24").tcp(port).build());
    objects
}

type Statuses = BTreeMap<ObjectKey, Arc<MappingStatus>>;

fn statuses(driver: &Driver) -> Statuses {
    let all = driver.gateway.status().expect("a status").mappings.clone();
    all.into_iter().filter(|(key, _)| key.name.starts_with("other")).collect()
}

/// What was asked of the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    operations: Vec<String>,
    /// Looks at routing and sysctls.
    looks: usize,
    /// Listings of all of netfilter that is ours.
    listings: usize,
    /// Walks over the connections.
    walks: usize,
}

impl Asked {
    fn of(outputs: &[Output]) -> Self {
        let mut asked = Self::default();
        for output in outputs {
            match output {
                Output::Observe(scope) if scope.netfilter == Netfilter::Untold => asked.looks += 1,
                Output::Observe(_) => asked.listings += 1,
                Output::Apply(transaction) => {
                    let ops = transaction.ops.iter().map(|op| op.describe(transaction.domain));
                    asked.operations.extend(ops);
                }
                Output::ListFlows(_) => asked.walks += 1,
                Output::Status(_) | Output::Event(_) => {}
            }
        }
        asked
    }
}

/// What is asked for the input.
#[track_caller]
fn asked(driver: &mut Driver, input: Input) -> Asked {
    let Driver { gateway, kernel, .. } = driver;
    gateway.handle_input(kernel.now(), input);
    let asked = Asked::of(&run(gateway, kernel, |_| {}));
    assert!(gateway.status().is_some_and(|status| status.in_sync), "{asked:?}");
    asked
}

/// A gateway with so many Mappings beside the one.
fn beside(others: u16) -> Driver {
    let driver = started_on(kernel(XtFlavour::Nft), (0..others).flat_map(other).collect());
    assert_in_sync(&driver);
    assert_eq!(statuses(&driver).len(), usize::from(others));
    driver
}

/// Something that happens to one Mapping, or to an uplink that is its alone.
enum Change {
    Cluster(Vec<ClusterObject>),
    Host(fn(&mut SimKernel)),
    /// The time of the next look has come.
    Pause,
}

impl Change {
    fn happen(self, driver: &mut Driver) -> Input {
        match self {
            Self::Cluster(objects) => Input::Cluster(objects),
            Self::Host(change) => {
                change(&mut driver.kernel);
                Input::Host(driver.kernel.host())
            }
            Self::Pause => {
                driver.kernel.advance(4_000);
                Input::Tick
            }
        }
    }
}

/// Every kind of change of one Mapping, each after those before it.
fn of_the_mapping() -> Vec<(&'static str, Change)> {
    let became = |what, one: One| (what, Change::Cluster(one.objects()));
    let replaced = One { pods: &["10.1.0.1", "10.1.0.3"], ..FIRST };
    let added = One { pods: &["10.1.0.1", "10.1.0.3", "10.1.0.4"], ..FIRST };
    let source = One { source: "198.18.0.0/15", ..replaced };
    let leaving = One { egress: true, ..source };
    vec![
        became("Mapping added", FIRST),
        became("endpoint replaced", replaced),
        became("endpoint added", added),
        became("endpoint removed", replaced),
        became("sources changed", source),
        became("port changed", One { ports: (8080, None), ..source }),
        became("port becomes a range", One { ports: (8080, Some(8090)), ..source }),
        became("range is shifted", One { ports: (80, Some(90)), ..source }),
        became("range becomes a port", source),
        became("affinity", One { affinity: Some(60), ..source }),
        became("no affinity", source),
        became("client kept", One { masquerade: false, ..source }),
        became("client hidden", source),
        became("egress", leaving),
        became("egress pod added", One { pods: added.pods, ..leaving }),
        became("egress pod removed", leaving),
        became("no egress", source),
        ("nothing", Change::Pause),
        ("Service deleted", Change::Cluster(without_service("one"))),
        ("Mapping deleted", Change::Cluster(vec![without_mapping("one")])),
    ]
}

/// Changes of the Mapping's uplink, and of one that no Mapping is on.
fn of_uplinks() -> Vec<(&'static str, Change)> {
    vec![
        ("Mapping added", Change::Cluster(FIRST.objects())),
        ("its address gone", Change::Host(|k| k.remove_address("ext2", ip(EXT2)))),
        ("its address back", Change::Host(|k| k.add_address("ext2", "198.51.100.10/24"))),
        ("its uplink down", Change::Host(|k| k.set_link_up("ext2", false))),
        ("its uplink up", Change::Host(|k| k.set_link_up("ext2", true))),
        (
            "uplink added",
            Change::Host(|k| {
                k.add_link("ext3");
                k.add_address("ext3", "192.0.2.130/25");
            }),
        ),
        ("uplink removed", Change::Host(|k| k.remove_link("ext3"))),
    ]
}

/// What is asked for each change in turn, beside so many others.
fn asked_for(changes: Vec<(&'static str, Change)>, others: u16) -> Vec<(&'static str, Asked)> {
    let mut driver = beside(others);
    let each = changes.into_iter().map(|(what, change)| {
        let before = statuses(&driver);
        // A change of the host may bear on all.
        let all_anew = matches!(change, Change::Host(_));
        let input = change.happen(&mut driver);
        let asked = asked(&mut driver, input);
        for (key, status) in statuses(&driver) {
            assert!(all_anew || Arc::ptr_eq(&status, &before[&key]), "{what}: {key} was made anew");
        }
        (what, asked)
    });
    each.collect()
}

/// How many operations a change takes with iptables and with nftables, how many looks with
/// nftables, how many walks over the connections with either.
type Counts = [usize; 4];

fn assert_proportionate(
    changes: impl Fn() -> Vec<(&'static str, Change)>,
    expected: &[(&str, Counts)],
) {
    on_both_backends(|| {
        let [few, many] = OTHERS.map(|others| asked_for(changes(), others));
        assert_eq!(few, many);
        assert_eq!(few.len(), expected.len());
        for ((what, asked), (name, [iptables, nftables, looks, walks])) in few.iter().zip(expected)
        {
            assert_eq!(what, name);
            assert_eq!(asked.walks, *walks, "{what}: {asked:#?}");
            match backend() {
                Backend::Nftables => {
                    assert_eq!(asked.operations.len(), *nftables, "{what}: {asked:#?}");
                    assert_eq!(asked.looks + asked.listings, *looks, "{what}: {asked:#?}");
                    // What is put beside the rules of others in iptables is read back.
                    let beside = asked.operations.iter().any(|op| op.contains(" in filter "));
                    assert_eq!(asked.listings, usize::from(beside), "{what}: {asked:#?}");
                }
                // There is no other way to know what it holds than a listing.
                _ => assert_eq!(asked.operations.len(), *iptables, "{what}: {asked:#?}"),
            }
        }
    });
}

#[test]
fn a_change_asks_for_the_same_however_many_mappings_there_are() {
    assert_proportionate(
        of_the_mapping,
        &[
            ("Mapping added", [4, 7, 0, 0]),
            ("endpoint replaced", [1, 2, 0, 2]),
            ("endpoint added", [1, 9, 0, 0]),
            ("endpoint removed", [1, 9, 0, 2]),
            ("sources changed", [3, 6, 0, 2]),
            ("port changed", [4, 8, 0, 2]),
            ("port becomes a range", [4, 13, 0, 2]),
            // An element for each of the eleven ports.
            ("range is shifted", [4, 28, 0, 2]),
            ("range becomes a port", [4, 14, 0, 2]),
            ("affinity", [5, 14, 0, 0]),
            ("no affinity", [5, 14, 0, 0]),
            ("client kept", [1, 8, 0, 0]),
            ("client hidden", [1, 8, 0, 0]),
            // With routing rules, which are looked at afterwards.
            ("egress", [9, 7, 1, 0]),
            ("egress pod added", [2, 11, 0, 0]),
            ("egress pod removed", [2, 11, 0, 2]),
            ("no egress", [7, 7, 1, 2]),
            ("nothing", [0, 0, 1, 0]),
            ("Service deleted", [2, 7, 0, 2]),
            ("Mapping deleted", [4, 5, 0, 2]),
        ],
    );
}

/// Every change of the host is preceded by a look, and what changes routing is followed by one.
#[test]
fn a_change_of_an_uplink_asks_for_the_same_however_many_mappings_others_have() {
    assert_proportionate(
        of_uplinks,
        &[
            ("Mapping added", [4, 7, 0, 0]),
            ("its address gone", [5, 8, 1, 2]),
            ("its address back", [7, 10, 2, 0]),
            ("its uplink down", [1, 1, 1, 0]),
            ("its uplink up", [2, 2, 2, 0]),
            ("uplink added", [22, 25, 2, 0]),
            ("uplink removed", [20, 23, 2, 2]),
        ],
    );
}
