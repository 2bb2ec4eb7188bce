//! One pod behind two uplinks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_sim::topology::addresses::{EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6};

use super::Finding;
use crate::demo::DemoError;
use crate::demo::stage::{PODS, Stage, end};

/// Connections that are opened by one uplink at most until each pod has one; with three pods, fewer
/// are all but certain to do.
const ATTEMPTS: usize = 60;

/// Requests over each connection.
const REQUESTS: u32 = 20;

/// Port of the samples.
const PORT: u16 = 8080;

/// T11: the same pod answers clients of both uplinks at once, each by its own uplink.
pub(super) fn replies(stage: &mut impl Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    let uplinks = [("ext1", [EXT1_V4[0], EXT1_V6[0]]), ("ext2", [EXT2_V4[0], EXT2_V6[0]])];
    let watches = [stage.watch("ext1")?, stage.watch("ext2")?];
    let mut pods = Vec::new();
    for (place, family) in Family::ALL.into_iter().enumerate() {
        let mut first = connections_by_pod(stage, "client1", uplinks[0].1[place])?;
        let mut second = connections_by_pod(stage, "client2", uplinks[1].1[place])?;
        let common = first.keys().find(|pod| second.contains_key(*pod)).cloned();
        finding.require(common.is_some(), || format!("{family}: no pod answered on both uplinks"));
        let Some(pod) = common else { continue };
        for conversation in first.get_mut(&pod).into_iter().chain(second.get_mut(&pod)) {
            converse(stage, &mut finding, &pod, conversation);
        }
        pods.push(format!("{pod} ({family})"));
    }
    let mut counts = Vec::new();
    for ((uplink, own), watch) in uplinks.iter().zip(&watches) {
        let (right, wrong) = count_replies(&stage.sources_of_replies(watch, PORT), own);
        finding.require(right > 0, || format!("{uplink}: no reply was seen"));
        finding.require(wrong == 0, || format!("{uplink}: {wrong} replies of another uplink"));
        counts.push(format!("{right} packets by {uplink} ({wrong} by mistake)"));
    }
    finding.measured = format!(
        "{} served clients of both uplinks at once\nreplies: {}",
        pods.join(" and "),
        counts.join(", ")
    );
    Ok(finding)
}

/// A connection to each pod, as far as chance provides them.
fn connections_by_pod<S: Stage>(
    stage: &mut S,
    client: &str,
    external: &str,
) -> Result<BTreeMap<String, S::Conversation>, DemoError> {
    let mut found = BTreeMap::new();
    for _ in 0..ATTEMPTS {
        if found.len() == PODS.len() {
            break;
        }
        let Ok(mut conversation) = stage.open(client, end(external, PORT))? else { continue };
        if let Some(pod) = stage.ask_on(&mut conversation, "who").server() {
            found.entry(pod.to_owned()).or_insert(conversation);
        }
    }
    Ok(found)
}

fn converse<S: Stage>(
    stage: &mut S,
    finding: &mut Finding,
    pod: &str,
    conversation: &mut S::Conversation,
) {
    for number in 0..REQUESTS {
        let outcome = stage.ask_on(conversation, &number.to_string());
        finding.require(outcome.server() == Some(pod), || {
            format!("{}, request {number}: {outcome}", S::local(conversation))
        });
    }
}

/// Replies that left, and those among them with another source than this uplink's.
fn count_replies(sources: &[IpAddr], own: &[&str; 2]) -> (usize, usize) {
    let own = own.map(|address| address.parse::<IpAddr>().ok());
    let wrong = sources.iter().filter(|source| !own.contains(&Some(**source))).count();
    (sources.len(), wrong)
}
