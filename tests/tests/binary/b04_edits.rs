//! Edits of the manifests take effect, and what is wrong with them is told.

use smartnat::lab::wait_until;
use smartnat_core::status::StatusReport;

use crate::common::{SIDES, at, both_flavours, servers};
use crate::manifests::{bare_service, mapping, service, slice};
use crate::station::{PATIENCE, Station};

const POD1: &str = "10.244.1.11";
const POD2: &str = "10.244.1.12";

/// Where a TCP port of the first external address leads for the first client.
#[track_caller]
fn leads(station: &Station, port: u16, server: Option<&str>) {
    let side = SIDES[0];
    let so = station.wait_answer(side.client, at(side.external, port), server);
    assert!(so, "port {port} does not lead to {server:?}");
}

fn verdict(report: &StatusReport, name: &str) -> Option<String> {
    let mut all = report.mappings.iter();
    all.find(|(key, _)| *key.name == *name).map(|(_, status)| status.invalid.clone())
}

both_flavours!(files_written_in_place_renamed_and_deleted_take_effect, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    let run = station.serve();
    let address = [SIDES[0].external];
    station.write("mapping.yaml", &mapping("echo", &address, 8080, "echo"));
    // It waits for its Service, and then for an endpoint.
    run.wait_status(|status| {
        status.mappings.values().any(|m| m.ports.iter().any(|port| port.waiting.is_some()))
    });
    leads(&station, 8080, None);
    station.write("service.yaml", &bare_service("echo"));
    station.write("slice.yaml", &slice("echo", &[POD1]));
    leads(&station, 8080, Some("pod1"));
    station.replace("slice.yaml", &slice("echo", &[POD2]));
    leads(&station, 8080, Some("pod2"));
    station.write("slice.yaml", &slice("echo", &[POD1]));
    leads(&station, 8080, Some("pod1"));
    station.replace("mapping.yaml", &mapping("echo", &address, 8090, "echo"));
    leads(&station, 8090, Some("pod1"));
    leads(&station, 8080, None);
    // Another Service by the Mapping alone.
    station.write("other.yaml", &service("other", &[POD2]));
    station.write("mapping.yaml", &mapping("echo", &address, 8090, "other"));
    leads(&station, 8090, Some("pod2"));
    // The same object in a file of another name.
    let (old, new) = (station.manifests().join("mapping.yaml"), station.manifests().join("b.yaml"));
    std::fs::rename(old, new).expect("a rename");
    station.write("more.yaml", &mapping("more", &address, 8091, "echo"));
    leads(&station, 8091, Some("pod1"));
    leads(&station, 8090, Some("pod2"));
    station.delete("other.yaml");
    leads(&station, 8090, None);
    station.delete("b.yaml");
    run.wait_status(|status| status.in_sync && verdict(status, "echo").is_none());
    leads(&station, 8091, Some("pod1"));
    let log = run.terminate();
    assert!(!log.contains("ERROR"), "{log}");
});

both_flavours!(a_broken_file_keeps_its_last_good_objects_until_it_is_mended, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    let address = [SIDES[0].external];
    station.write("service.yaml", &service("echo", &[POD1]));
    station.write("mapping.yaml", &mapping("echo", &address, 8080, "echo"));
    let run = station.serve();
    leads(&station, 8080, Some("pod1"));
    let stats = run.stats();
    station.write("mapping.yaml", "apiVersion: smartnat.aureacentral.com/v1alpha1\nkind: [\n");
    let line = run.wait_line(&["ERROR", "mapping.yaml:", "the last good version stays"]);
    assert!(line.contains("no YAML"), "{line}");
    leads(&station, 8080, Some("pod1"));
    // A value of the wrong kind is named by its field, and keeps the object too.
    let wrong = mapping("echo", &address, 8080, "echo").replace("port: 8080", "port: many");
    station.replace("mapping.yaml", &wrong);
    run.wait_line(&["ERROR", "mapping.yaml:", "spec.ports[0].port", "the last good version stays"]);
    leads(&station, 8080, Some("pod1"));
    // An empty file is more likely half a save than a wish.
    station.write("mapping.yaml", "");
    run.wait_line(&["ERROR", "mapping.yaml", "is empty"]);
    leads(&station, 8080, Some("pod1"));
    assert_eq!(run.stats(), stats, "nothing of that is a change");
    station.write("mapping.yaml", &mapping("echo", &address, 8090, "echo"));
    leads(&station, 8090, Some("pod1"));
    leads(&station, 8080, None);
});

both_flavours!(what_is_wrong_with_a_manifest_is_told_with_the_mend, |flavour| {
    let station = Station::new(flavour);
    let address = [SIDES[0].external];
    station.write("service.yaml", &service("echo", &[POD1]));
    let run = station.serve();
    let misspelt = mapping("echo", &address, 8080, "echo") + "  allowedSource: [192.0.2.0/24]\n";
    station.write("misspelt.yaml", &misspelt);
    run.wait_line(&["WARN", "misspelt.yaml", "spec.allowedSource", "did you mean allowedSources"]);
    let version = mapping("next", &address, 8081, "echo").replace("v1alpha1", "v1beta2");
    station.write("version.yaml", &version);
    let line = run.wait_line(&["ERROR", "version.yaml", "v1beta2"]);
    assert!(line.contains("use smartnat.aureacentral.com/v1alpha1"), "{line}");
    let kind = mapping("kind", &address, 8082, "echo").replace("kind: Mapping", "kind: Maping");
    station.write("kind.yaml", &kind);
    run.wait_line(&["ERROR", "kind.yaml", "Maping", "did you mean Mapping"]);
    // A Mapping that can be read but not served is rejected with its reason.
    station.write("wrong.yaml", &mapping("wrong", &["127.0.0.1"], 8083, "echo"));
    run.wait_line(&["WARN", "default/wrong", "127.0.0.1"]);
    let status = run.wait_status(|status| verdict(status, "wrong").is_some());
    assert!(verdict(&status, "wrong").is_some_and(|why| why.contains("127.0.0.1")));
    assert_eq!(verdict(&status, "next"), None);
    // The rest works.
    assert_eq!(verdict(&status, "echo").as_deref(), Some("no"));
});

both_flavours!(of_two_mappings_of_one_endpoint_one_wins_and_the_other_follows_it, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    let address = [SIDES[0].external];
    station.write("s1.yaml", &service("one", &[POD1]));
    station.write("s2.yaml", &service("two", &[POD2]));
    station.write("z.yaml", &mapping("a-first", &address, 8080, "one"));
    let run = station.serve();
    station.write("a.yaml", &mapping("b-second", &address, 8080, "two"));
    run.wait_line(&["WARN", "default/b-second", "default/a-first"]);
    leads(&station, 8080, Some("pod1"));
    station.delete("z.yaml");
    leads(&station, 8080, Some("pod2"));
    let status = run.wait_status(|status| verdict(status, "b-second").as_deref() == Some("no"));
    assert_eq!(verdict(&status, "a-first"), None);
});

both_flavours!(endpoints_of_the_old_kind_serve_until_a_slice_comes, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    station.write("service.yaml", &bare_service("echo"));
    station.write("mapping.yaml", &mapping("echo", &[SIDES[0].external], 8080, "echo"));
    station.write(
        "endpoints.yaml",
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: echo, namespace: default}\nsubsets:\n\
         - addresses: [{ip: 10.244.1.12}]\n  ports: [{name: http, port: 8080}]\n",
    );
    let run = station.serve();
    leads(&station, 8080, Some("pod2"));
    station.write("slice.yaml", &slice("echo", &[POD1]));
    leads(&station, 8080, Some("pod1"));
    station.delete("slice.yaml");
    leads(&station, 8080, Some("pod2"));
    run.terminate();
});

both_flavours!(a_mounted_config_map_is_followed_through_its_links, |flavour| {
    use std::os::unix::fs::symlink;

    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    let root = station.manifests();
    let fill = |version: &str, pod: &str| {
        let directory = root.join(version);
        std::fs::create_dir(&directory).expect("a directory");
        let text = service("echo", &[pod])
            + "---\n"
            + &mapping("echo", &[SIDES[0].external], 8080, "echo");
        std::fs::write(directory.join("all.yaml"), text).expect("a file");
    };
    // As the kubelet mounts and updates it: one rename switches all files.
    fill("..2024_01", POD1);
    symlink("..2024_01", root.join("..data")).expect("a link");
    symlink("..data/all.yaml", root.join("all.yaml")).expect("a link");
    let run = station.serve();
    leads(&station, 8080, Some("pod1"));
    fill("..2024_02", POD2);
    symlink("..2024_02", root.join("..data_tmp")).expect("a link");
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).expect("a rename");
    std::fs::remove_dir_all(root.join("..2024_01")).expect("removed");
    leads(&station, 8080, Some("pod2"));
    run.terminate();
});

both_flavours!(a_directory_that_goes_takes_nothing_along, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    station.write("service.yaml", &service("echo", &[POD1]));
    station.write("mapping.yaml", &mapping("echo", &[SIDES[0].external], 8080, "echo"));
    let run = station.serve();
    let lines = station.host_lines();
    let (root, aside) = (station.manifests(), station.path("aside"));
    std::fs::rename(&root, &aside).expect("a rename");
    run.wait_line(&["ERROR", "manifests", "everything stays as it was"]);
    assert_eq!(station.host_lines(), lines);
    std::fs::rename(&aside, &root).expect("a rename");
    station.write("service.yaml", &service("echo", &[POD2]));
    leads(&station, 8080, Some("pod2"));
});

both_flavours!(sighup_reads_everything_anew, |flavour| {
    let station = Station::new(flavour);
    station.write("service.yaml", &service("echo", &[POD1]));
    station.write("mapping.yaml", &mapping("echo", &[SIDES[0].external], 8080, "echo"));
    let run = station.serve();
    let before = run.stats();
    station.lab.command("gateway", &["kill", "-HUP", &run.id().to_string()]).expect("a signal");
    run.wait_line(&["reading everything anew"]);
    // What somebody damaged in a quiet domain is seen at once, without the next regular look.
    station.sh("ipset flush smartnat-x4");
    station.lab.command("gateway", &["kill", "-HUP", &run.id().to_string()]).expect("a signal");
    let repaired = wait_until(PATIENCE, || run.lines_with(&["put back"]).into_iter().next());
    assert!(repaired.is_some(), "{}", run.log());
    // The file follows the log line.
    let counted = || (run.stats().operations > before.operations).then_some(());
    assert!(wait_until(PATIENCE, counted).is_some(), "{}", run.log());
    run.terminate();
});
