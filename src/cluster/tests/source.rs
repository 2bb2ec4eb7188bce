//! Following a real API server: what is told, when, and what gets through outages, cuts, missing
//! definitions and missing rights.

mod apiserver;
mod follower;
mod objects;
mod proxy;
mod restartable;

use std::net::SocketAddr;
use std::time::Duration;

use apiserver::{ApiServer, read};
use follower::{Follower, Told};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use objects::{Space, establish};
use proxy::Proxy;
use restartable::Restartable;
use serde_json::{Value, json};
use smartnat_cluster::api;
use smartnat_cluster::source::{DefaultNamespace, TroubleClass, Verb, WatchedResource, connect};
use smartnat_core::model::ObjectKey;

type Failure = Box<dyn std::error::Error>;

/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(300);

fn addresses(last: u8) -> Vec<String> {
    vec![format!("10.0.0.{last}")]
}

/// The endpoints of a slice as the core was told.
fn endpoints(told: &Told, slice: &ObjectKey) -> Vec<String> {
    let slice = told.state.slices.get(slice);
    let endpoints = slice.into_iter().flat_map(|slice| &slice.endpoints);
    endpoints.flat_map(|e| &e.addresses).map(ToString::to_string).collect()
}

/// Leads `config` through a proxy.
async fn through_proxy(config: &mut kube::Config) -> Result<Proxy, Failure> {
    let host = config.cluster_url.host().ok_or("the server has no host")?.to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let server = tokio::net::lookup_host((host.as_str(), port)).await?.next();
    let proxy = Proxy::start(server.ok_or("the server has no address")?).await?;
    let address: SocketAddr = proxy.address();
    config.tls_server_name.get_or_insert(host);
    config.cluster_url = format!("https://{address}").parse()?;
    Ok(proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_and_what_changes_is_told() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        let (m, a, slice) = (space.key("m"), space.key("a"), space.key("a-1"));
        space.mapping("m", "a").await?;
        space.service("a", 80).await?;
        space.slice("a-1", "a", &addresses(1)).await?;
        space.lease("gateway-1", "instance").await?;
        space.lease("something-else", "other").await?;

        let mut follower = Follower::start(read(&server.kubeconfig).await?, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        let told = &follower.told;
        assert!(told.state.mappings.contains_key(&m) && told.state.services.contains_key(&a));
        assert_eq!(endpoints(told, &slice), addresses(1));
        assert!(told.mappings.contains_key(&m));
        assert!(told.leases.keys().eq(["gateway-1"]), "first, and only ours");

        space.service("a", 81).await?;
        follower
            .until("the other port", |told| told.state.services[&a].ports[0].port == 81)
            .await?;
        space.slice("a-1", "a", &addresses(2)).await?;
        follower.until("the other endpoint", |t| endpoints(t, &slice) == addresses(2)).await?;
        space.delete::<EndpointSlice>("a-1").await?;
        follower.until("no slice", |told| !told.state.slices.contains_key(&slice)).await?;
        space.lease("gateway-2", "instance").await?;
        space.delete::<Lease>("gateway-1").await?;
        follower.until("the other Lease", |told| told.leases.keys().eq(["gateway-2"])).await?;

        let before = follower.told.for_core;
        space.status("m", "no").await?;
        follower
            .until("the status", |told| {
                told.mappings[&m].status.as_ref().is_some_and(|s| s.invalid.is_some())
            })
            .await?;
        assert_eq!(follower.told.for_core, before, "a status is no matter of the core");

        space.delete::<api::Mapping>("m").await?;
        follower.until("no Mapping", |told| told.mappings.is_empty()).await?;
        follower.listen(A_WHILE).await;
        assert!(!follower.told.state.services.contains_key(&a), "nobody names it any more");
        assert!(follower.told.troubles.is_empty(), "{:?}", follower.told.troubles);
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_before_everything_is_known() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        space.mapping("m", "a").await?;
        space.slice("a-1", "a", &addresses(1)).await?;
        for held in ["/mappings", "/services", "/endpointslices", "/leases"] {
            let config = read(&server.kubeconfig).await?;
            let mut follower = Follower::start_held(config, &space.name, held)?;
            follower.listen(A_WHILE).await;
            assert_eq!(follower.told.changed, 0, "{held} are not known yet");
            follower.requests.held.send_replace("");
            follower.until("the first changes", |told| told.changed == 1).await?;
            let told = &follower.told;
            assert!(told.state.mappings.contains_key(&space.key("m")), "{held}");
            assert_eq!(endpoints(told, &space.key("a-1")), addresses(1), "{held}");
        }
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_fetched_when_their_service_is_named() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        space.mapping("m", "a").await?;
        space.slice("a-1", "a", &addresses(1)).await?;
        for i in 1..=20 {
            space.slice(&format!("b-{i}"), "b", &addresses(i)).await?;
        }
        let mut follower = Follower::start(read(&server.kubeconfig).await?, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        let (m, first) = (space.key("m"), space.key("a-1"));
        assert_eq!(follower.told.state.slices.len(), 1, "nobody names b");
        assert_eq!(follower.requests.gets("endpointslices"), 0);
        let lists = follower.requests.lists("endpointslices");

        // Its endpoints must not go before the new ones are here.
        follower.requests.held.send_replace("/endpointslices/b-");
        space.mapping("m", "b").await?;
        follower.listen(A_WHILE).await;
        assert_eq!(follower.told.state.mappings[&m].spec.service_name.as_ref(), "a");
        assert_eq!(endpoints(&follower.told, &first), addresses(1));
        space.slice("b-1", "b", &addresses(101)).await?;
        follower.requests.held.send_replace("");
        let moved = |told: &Told| told.state.mappings[&m].spec.service_name.as_ref() == "b";
        follower.until("the other Service", moved).await?;
        assert_eq!(follower.told.state.slices.len(), 20, "all of b, none of a");
        assert_eq!(endpoints(&follower.told, &space.key("b-1")), addresses(101));
        assert_eq!(follower.requests.lists("endpointslices"), lists);
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_during_an_outage_is_told_after_it() -> Result<(), Failure> {
    let Some(server) = Restartable::start()? else { return Ok(()) };
    let client = Client::try_from(read(&server.kubeconfig()).await?)?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        for name in ["stays", "goes"] {
            space.mapping(name, name).await?;
            space.service(name, 80).await?;
            space.slice(name, name, &addresses(1)).await?;
            space.lease(name, "instance").await?;
        }
        let mut config = read(&server.kubeconfig()).await?;
        let proxy = through_proxy(&mut config).await?;
        let mut follower = Follower::start(config, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        let before = follower.told.state.clone();

        // Cut off while things change, and no history of it is left for the return.
        proxy.refuse(true);
        let out = |told: &Told| {
            let troubled = |r| told.troubles.iter().any(|t| t.resource == r);
            WatchedResource::ALL.into_iter().all(troubled)
        };
        follower.until("trouble with everything", out).await?;
        let mut troubles = follower.told.troubles.iter();
        assert!(troubles.all(|t| t.class == TroubleClass::Unreachable));
        space.delete::<api::Mapping>("goes").await?;
        space.delete::<Service>("goes").await?;
        space.delete::<EndpointSlice>("goes").await?;
        space.delete::<Lease>("goes").await?;
        space.service("stays", 81).await?;
        space.mapping("comes", "stays").await?;
        server.kill()?;
        server.resume()?;
        assert_eq!(follower.told.state, before, "an outage deletes nothing");
        proxy.refuse(false);

        follower
            .until("all that changed", |told| {
                told.state.mappings.keys().eq([&space.key("comes"), &space.key("stays")])
                    && told
                        .state
                        .services
                        .get(&space.key("stays"))
                        .is_some_and(|s| s.ports[0].port == 81)
                    && told.state.services.len() == 1
                    && told.state.slices.keys().eq([&space.key("stays")])
                    && told.mappings.len() == 2
                    && told.leases.keys().eq(["stays"])
            })
            .await?;
        let well =
            |told: &Told| WatchedResource::ALL.into_iter().all(|r| told.recovered.contains(&r));
        follower.until("recovery of everything", well).await?;
        assert!(follower.told.relisted.contains(&WatchedResource::Mappings));
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_followed_from_where_it_is() -> Result<(), Failure> {
    let Some(server) = Restartable::start()? else { return Ok(()) };
    let client = Client::try_from(read(&server.kubeconfig()).await?)?;
    establish(&client).await?;
    let space = Space { client, name: "default".to_owned() };
    space.mapping("m", "a").await?;
    space.service("a", 80).await?;
    space.lease("gateway-1", "instance").await?;
    server.back_up()?;

    let mut follower = Follower::start(read(&server.kubeconfig()).await?, "default")?;
    follower.until("the first changes", |told| told.changed == 1).await?;
    // Far ahead of what the restored server can reach by itself.
    for i in 1..=300_u16 {
        space.service("a", 1000 + i).await?;
    }
    space.mapping("lost", "a").await?;
    space.lease("gateway-2", "instance").await?;
    let (a, lost) = (space.key("a"), space.key("lost"));
    let port = |told: &Told, port: u16| {
        told.state.services.get(&a).is_some_and(|service| service.ports[0].port == port)
    };
    let ahead = |told: &Told| {
        port(told, 1300) && told.state.mappings.contains_key(&lost) && told.leases.len() == 2
    };
    follower.until("what will be lost", ahead).await?;

    server.restore()?;
    let back = |told: &Told| {
        port(told, 80) && !told.state.mappings.contains_key(&lost) && told.leases.len() == 1
    };
    follower.until("what there was in the backup", back).await?;
    assert!(follower.told.resets >= 1, "whoever remembers versions is told");
    space.service("a", 81).await?;
    follower.until("a change after that", |told| port(told, 81)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_listed_anew_when_asked_for() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let mut follower = Follower::start(read(&server.kubeconfig).await?, "default")?;
    follower.until("the first changes", |told| told.changed == 1).await?;
    follower.anew.notify_one();
    let all = |told: &Told| WatchedResource::ALL.iter().all(|r| told.relisted.contains(r));
    follower.until("a new list of everything", all).await?;
    assert!(follower.told.troubles.is_empty(), "{:?}", follower.told.troubles);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_recovers_without_any_change() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let mut config = read(&server.kubeconfig).await?;
    let client = server.client().await?;
    establish(&client).await?;
    let proxy = through_proxy(&mut config).await?;
    let mut follower = Follower::start(config, "default")?;
    follower.until("the first changes", |told| told.changed == 1).await?;
    proxy.refuse(true);
    follower.until("trouble", |told| !told.troubles.is_empty()).await?;
    proxy.refuse(false);
    let resource = follower.told.troubles[0].resource;
    follower.until("recovery", |told| told.recovered.contains(&resource)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_all_the_time_loses_nothing() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let mut config = read(&server.kubeconfig).await?;
    let client = server.client().await?;
    establish(&client).await?;
    let proxy = through_proxy(&mut config).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        let mut follower = Follower::start(config, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        let resources = ["mappings", "services", "endpointslices", "leases"];
        let first = resources.map(|resource| follower.requests.lists(resource));
        let cutting = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                proxy.cut();
            }
        };
        let changing = async {
            for round in 1..=3_u8 {
                for i in 0..10 {
                    let name = format!("m-{i}");
                    space.service(&name, 80 + u16::from(round)).await?;
                    space.slice(&name, &name, &addresses(round)).await?;
                    space.mapping(&name, &name).await?;
                    space.status(&name, &format!("round {round}")).await?;
                    if i % 3 == 0 && round < 3 {
                        space.delete::<api::Mapping>(&name).await?;
                        space.delete::<EndpointSlice>(&name).await?;
                    }
                }
            }
            Ok::<_, Failure>(())
        };
        let all = |told: &Told| {
            (0..10).all(|i| {
                let key = space.key(&format!("m-{i}"));
                let status = told.mappings.get(&key).and_then(|m| m.status.as_ref());
                told.state.mappings.contains_key(&key)
                    && endpoints(told, &key) == addresses(3)
                    && told.state.services.get(&key).is_some_and(|s| s.ports[0].port == 83)
                    && status.and_then(|s| s.invalid.as_deref()) == Some("round 3")
            })
        };
        let following = async {
            changing.await?;
            follower.until("all that was changed", all).await?;
            Ok::<_, Failure>(())
        };
        tokio::select! {
            outcome = following => outcome?,
            () = cutting => {}
        }
        let lists = resources.map(|resource| follower.requests.lists(resource));
        assert_eq!(lists, first, "watches are resumed: {:?}", follower.told.troubles);
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_listed_once_in_pages_and_never_again() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        // More than two pages.
        let names: Vec<_> = (0..120).map(|i| format!("s-{i}")).collect();
        for name in &names {
            space.service(name, 80).await?;
            space.slice(name, name, &addresses(1)).await?;
        }
        space.mapping("m", "s-119").await?;
        let mut follower = Follower::start(read(&server.kubeconfig).await?, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        assert_eq!(endpoints(&follower.told, &space.key("s-119")), addresses(1));
        let lists = |follower: &Follower| {
            let lists = |resource| follower.requests.lists(resource);
            ["mappings", "services", "endpointslices", "leases"].map(lists)
        };
        let first = lists(&follower);
        assert!(first[1] >= 3 && first[2] >= 3, "in pages: {first:?}");

        for name in &names[..20] {
            space.mapping(name, name).await?;
            space.slice(name, name, &addresses(2)).await?;
        }
        let all = |told: &Told| {
            let has = |name: &String| endpoints(told, &space.key(name)) == addresses(2);
            names[..20].iter().all(has)
        };
        follower.until("all that was changed", all).await?;
        assert_eq!(lists(&follower), first);
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_a_handful_of_changes() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let test = async |space: Space| -> Result<(), Failure> {
        space.mapping("m", "a").await?;
        space.slice("a-1", "a", &addresses(0)).await?;
        let mut follower = Follower::start(read(&server.kubeconfig).await?, &space.name)?;
        follower.until("the first changes", |told| told.changed == 1).await?;
        let began = std::time::Instant::now();
        let changing = async {
            for last in 1..=250 {
                space.slice("a-1", "a", &addresses(last)).await?;
            }
            Ok::<_, Failure>(())
        };
        let last = |told: &Told| endpoints(told, &space.key("a-1")) == addresses(250);
        // At the same time: a receiver that is busy elsewhere gets few events anyway.
        let (written, seen) = tokio::join!(changing, follower.until("the last one", last));
        written.and(seen)?;
        let took = began.elapsed();
        // Windows of 50, 100, 200, 400 and 800 ms, then one a second.
        let most = 8 + usize::try_from(took.as_secs())?;
        let changes = follower.told.for_core - 1;
        assert!(changes <= most, "{changes} changes in {took:?}");
        Ok(())
    };
    Space::run(&client, test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_installed_late_is_waited_for() -> Result<(), Failure> {
    let Some(server) = Restartable::start()? else { return Ok(()) };
    let (client, namespace) = connect(Some(&server.kubeconfig())).await?;
    assert_eq!(namespace, DefaultNamespace("default".to_owned()));
    let mut follower = Follower::start(read(&server.kubeconfig()).await?, "default")?;
    let missing = |told: &Told| {
        told.troubles.iter().any(|t| {
            t.resource == WatchedResource::Mappings && t.class == TroubleClass::NotInstalled
        })
    };
    follower.until("a word about the definition", missing).await?;
    assert!(follower.told.troubles[0].message.contains("install the definition"));

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let other = other_version(api::crd_yaml()?.as_str())?;
    definitions.create(&PostParams::default(), &other).await?;
    let wrong = TroubleClass::WrongVersion { served: vec!["v9".to_owned()] };
    let is_wrong = |told: &Told| told.troubles.iter().any(|t| t.class == wrong);
    follower.until("a word about the version", is_wrong).await?;
    assert_eq!(follower.told.changed, 0);
    let name = other.metadata.name.unwrap_or_default();
    definitions.delete(&name, &DeleteParams::default()).await?;
    while definitions.get_opt(&name).await?.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    establish(&client).await?;
    let recovered = |told: &Told| told.recovered.contains(&WatchedResource::Mappings);
    follower.until("recovery", recovered).await?;
    follower.until("the first changes", |told| told.changed == 1).await?;
    let space = Space { client, name: "default".to_owned() };
    space.mapping("m", "a").await?;
    let known = |told: &Told| told.state.mappings.contains_key(&space.key("m"));
    follower.until("the Mapping", known).await
}

/// The definition with another version instead of ours.
fn other_version(text: &str) -> Result<CustomResourceDefinition, Failure> {
    let mut definition: Value = serde_yaml_ng::from_str(text)?;
    let version = &mut definition["spec"]["versions"][0];
    version["name"] = "v9".into();
    version["schema"] = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    version["additionalPrinterColumns"] = json!([]);
    Ok(serde_json::from_value(definition)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_with_its_rule() -> Result<(), Failure> {
    let Some(server) = Restartable::start()? else { return Ok(()) };
    let mut config = read(&server.kubeconfig()).await?;
    let client = Client::try_from(config.clone())?;
    establish(&client).await?;
    let space = Space { client: client.clone(), name: "default".to_owned() };
    space.slice("a-1", "a", &addresses(1)).await?;
    config.auth_info.impersonate = Some("system:serviceaccount:default:smartnat".to_owned());
    let mut follower = Follower::start(config, "default")?;

    let forbidden = |told: &Told, resource, verb| {
        told.troubles
            .iter()
            .find(|t| t.resource == resource && is_forbidden(&t.class, verb))
            .cloned()
    };
    let mappings = WatchedResource::Mappings;
    let word = |told: &Told| forbidden(told, mappings, Verb::List).is_some();
    follower.until("a word about Mappings", word).await?;
    let trouble = forbidden(&follower.told, mappings, Verb::List).ok_or("no trouble")?;
    let rule = "{apiGroups: [\"smartnat.aureacentral.com\"], resources: [\"mappings\"], \
                verbs: [\"list\", \"watch\"]}";
    assert!(trouble.message.contains(rule), "{trouble}");
    let leases = |told: &Told| forbidden(told, WatchedResource::Leases, Verb::List).is_some();
    follower.until("a word about Leases", leases).await?;

    // All but one verb: that one is named.
    let mut rules: Value = json!([
        { "apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list", "watch"] },
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
          "verbs": ["list"] },
    ]);
    let list = rules.as_array_mut().ok_or("no rules")?;
    list.push(serde_yaml_ng::from_str(rule)?);
    grant(&client, "smartnat-some", &rules).await?;
    let slices = WatchedResource::EndpointSlices;
    let word = |told: &Told| forbidden(told, slices, Verb::Watch).is_some();
    follower.until("a word about watching slices", word).await?;
    let trouble = forbidden(&follower.told, slices, Verb::Watch).ok_or("no trouble")?;
    assert!(trouble.message.contains("may not watch endpointslices in all namespaces"));

    let verb = |verb: &str| {
        json!([{
            "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": [verb],
        }])
    };
    grant(&client, "smartnat-watch", &verb("watch")).await?;
    follower.until("recovery", |told| told.recovered.contains(&slices)).await?;
    follower.until("the first changes", |told| told.changed == 1).await?;

    // What it takes to fetch a slice is missing: the new Mapping comes without.
    space.mapping("m", "a").await?;
    let word = |told: &Told| forbidden(told, slices, Verb::Get).is_some();
    follower.until("a word about getting slices", word).await?;
    let known = |told: &Told| told.state.mappings.contains_key(&space.key("m"));
    follower.until("the Mapping", known).await?;
    assert!(follower.told.state.slices.is_empty());
    follower.told.recovered.clear();
    grant(&client, "smartnat-get", &verb("get")).await?;
    let known = |told: &Told| endpoints(told, &space.key("a-1")) == addresses(1);
    follower.until("the slice", known).await?;
    follower.until("recovery", |told| told.recovered.contains(&slices)).await
}

fn is_forbidden(class: &TroubleClass, asked: Verb) -> bool {
    matches!(class, TroubleClass::Forbidden { verb, .. } if *verb == asked)
}

async fn grant(client: &Client, name: &str, rules: &Value) -> Result<(), Failure> {
    let role: ClusterRole =
        serde_json::from_value(json!({ "metadata": { "name": name }, "rules": rules }))?;
    Api::all(client.clone()).create(&PostParams::default(), &role).await?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "default", "name": "smartnat" }],
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_certificates_are_told_apart() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let good = read(&server.kubeconfig).await?;

    let mut stranger = good.clone();
    stranger.auth_info = kube::config::AuthInfo::default();
    stranger.auth_info.token = Some("expired".to_owned().into());
    let mut follower = Follower::start(stranger, "default")?;
    follower.until("trouble", |told| !told.troubles.is_empty()).await?;
    assert_eq!(follower.told.troubles[0].class, TroubleClass::Unauthorized);

    // Whoever made the certificates of the system did not make the test server's.
    let mut distrustful = good.clone();
    distrustful.root_cert = None;
    let mut follower = Follower::start(distrustful, "default")?;
    follower.until("trouble", |told| !told.troubles.is_empty()).await?;
    assert_eq!(follower.told.troubles[0].class, TroubleClass::Certificate);

    let mut misled = good;
    misled.tls_server_name = Some("somebody-else.example".to_owned());
    let mut follower = Follower::start(misled, "default")?;
    follower.until("trouble", |told| !told.troubles.is_empty()).await?;
    assert_eq!(follower.told.troubles[0].class, TroubleClass::Certificate);
    Ok(())
}
