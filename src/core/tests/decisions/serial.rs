//! A gateway can be dumped and read back at any point, and goes on as if nothing had been.

use smartnat_core::gateway::{Gateway, Input, Output};
use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_core::ops::Kernel;
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service};

fn objects() -> Vec<ClusterObject> {
    let mut objects = service("echo")
        .port("", Protocol::Tcp, 80, 8080)
        .ready("10.1.0.7")
        .ready("fd01::7")
        .build();
    let everywhere = mapping("echo").address("203.0.113.10").address("2001:db8:1::10");
    objects.push(everywhere.source("192.0.2.0/24").tcp(80).egress(true).build());
    objects.push(mapping("late").address("203.0.113.10").tcp(80).build());
    objects
}

#[test]
fn a_gateway_survives_json_at_every_step() {
    let config = GatewayConfig { uplink_pattern: "ext1".into(), ..GatewayConfig::default() };
    let mut gateway = Gateway::new(config);
    let mut kernel = SimKernel::new(XtFlavour::Nft);
    kernel.add_link("ext1");
    for address in ["203.0.113.10/24", "2001:db8:1::10/64"] {
        kernel.add_address("ext1", address);
    }
    gateway.handle_input(kernel.now(), Input::Host(kernel.host()));
    gateway.handle_input(kernel.now(), Input::Cluster(objects()));
    for step in 0..1_000 {
        let text = serde_json::to_string(&gateway).expect("a gateway has JSON");
        let back: Gateway = serde_json::from_str(&text).expect("its JSON is a gateway");
        assert_eq!(back, gateway, "step {step}");
        gateway = back;
        let answer = match gateway.poll_output() {
            None => break,
            Some(Output::Observe(scope)) => Input::Observed(kernel.observe(&scope).map(Box::new)),
            Some(Output::Apply(transaction)) => Input::Applied(kernel.apply(&transaction)),
            Some(Output::ListFlows(filter)) => Input::Flows(kernel.flows(&filter)),
            Some(Output::Status(_) | Output::Event(_)) => continue,
        };
        let text = serde_json::to_string(&answer).expect("an input has JSON");
        let back = serde_json::from_str(&text).expect("its JSON is an input");
        assert_eq!(answer, back);
        gateway.handle_input(kernel.now(), back);
    }
    assert!(gateway.status().is_some_and(|s| s.in_sync));
}
