//! Why a Mapping's port has no endpoint for new connections (T6, T9).

use super::foreign::Finding;
use super::others::Course;
use super::outcome::{Cause, Stage, Verdict};
use super::route::{LOOPBACK, is_own};
use super::walk::{End, Walk, listed};
use crate::admit::AdmittedMapping;
use crate::model::{Family, ObjectKey, Protocol};
use crate::resolve::{ResolvedPort, Waiting};

impl Walk<'_> {
    /// It is answered at once, if there is a way for the answer.
    pub(super) fn nobody_home(&mut self, key: &ObjectKey, position: usize) -> End {
        let (Some(mapping), Some(resolved)) = (
            self.compiled.admission.accepted.get(key),
            self.compiled.resolved.get(key).and_then(|ports| ports.get(position)),
        ) else {
            return End::well(Verdict::Dropped, "it is not compiled");
        };
        let (cause, text) = self.why_none(mapping, resolved, position);
        self.stop(Stage::Endpoint, text.clone());
        let listed = !resolved.families.of(self.family()).listed.is_empty();
        let mend = mend(mapping, resolved.waiting.as_ref(), self.family(), listed);
        // With nftables all are answered where they arrive, also what this host sends.
        let on_arrival = self.input().is_some() || self.translates_first();
        if on_arrival && !is_own(&self.scene.host, self.question.destination) {
            // An address that is switched off is none of this host: it is routed on.
            let end = self.onwards();
            return End::because(end.verdict, cause, text).mend(mend);
        }
        let answer = match self.question.protocol {
            Protocol::Tcp => "a TCP reset",
            Protocol::Udp | Protocol::Sctp => "an ICMP port unreachable",
        };
        let way = self.router.look_up(self.question.source, self.uplink_mark(), LOOPBACK);
        let verdict = if let Some((_, finding)) = self.others_before_answer() {
            self.stop(
                Stage::Others,
                format!("it would get {answer}, but {} drops it", finding.what),
            );
            Verdict::Dropped
        } else if way.is_some() {
            self.pass(Stage::Return, format!("the client gets {answer}"));
            Verdict::Answered
        } else {
            let (stage, end) = self.no_return(self.uplink().map(|(name, _)| name));
            self.stop(stage, format!("it would get {answer}, but {}", end.summary));
            Verdict::Dropped
        };
        End::because(verdict, cause, text).mend(mend)
    }

    /// What others do to a packet before it is answered.
    fn others_before_answer(&mut self) -> Option<(Cause, Finding)> {
        let packet = self.first_packet();
        if packet.input.is_some() {
            return self.others_on(Course::Answered, &packet);
        }
        if !self.translates_first() {
            return self.others_on(Course::Sent, &packet);
        }
        self.others_by_loopback(Course::Sent, Course::Answered).map(|(met, _)| met)
    }

    fn why_none(
        &mut self,
        mapping: &AdmittedMapping,
        resolved: &ResolvedPort,
        position: usize,
    ) -> (Cause, String) {
        let service = &mapping.service;
        let port = &mapping.ports[position];
        match &resolved.waiting {
            Some(Waiting::NoService { .. }) => {
                self.field = Some("spec.serviceName".to_owned());
                let there = self.scene.cluster.services.keys();
                let there = there.filter(|k| k.namespace == service.namespace).map(|k| &k.name);
                let there = or_none(listed(there));
                (
                    Cause::NoService,
                    format!("there is no Service {service} (the namespace has: {there})"),
                )
            }
            Some(Waiting::NoServicePort { .. } | Waiting::AmbiguousPort { .. }) => {
                self.field = Some(format!("spec.ports[{position}].servicePort"));
                let ports = self.scene.cluster.services.get(service).map(|s| &s.ports);
                let ports = ports.into_iter().flatten();
                let there = or_none(listed(ports.map(|p| {
                    let name = if p.name.is_empty() { "unnamed" } else { &p.name };
                    format!("{name} {}/{}", p.protocol, p.port)
                })));
                let (wanted, protocol) = (&port.service_port, port.protocol);
                let text =
                    format!("Service {service} has no {protocol} port {wanted} (it has: {there})");
                (Cause::NoServicePort, text)
            }
            Some(Waiting::RangeBeyondLastPort { .. }) => {
                self.field = Some(format!("spec.ports[{position}].endPort"));
                (
                    Cause::NoEndpoint,
                    resolved.waiting.as_ref().map(ToString::to_string).unwrap_or_default(),
                )
            }
            _ => {
                self.field = Some("spec.serviceName".to_owned());
                (Cause::NoEndpoint, self.not_ready(mapping, resolved, position))
            }
        }
    }

    fn not_ready(
        &self,
        mapping: &AdmittedMapping,
        resolved: &ResolvedPort,
        position: usize,
    ) -> String {
        let family = self.family();
        let (service, port) = (&mapping.service, &mapping.ports[position]);
        let listed_here = listed(resolved.families.of(family).listed.keys());
        let all = self.scene.cluster.slices.values().filter(|slice| {
            slice.key.namespace == service.namespace && slice.service_name == service.name
        });
        let pods = all.flat_map(|slice| &slice.endpoints).filter_map(|e| e.addresses.first());
        let pods = listed(pods.filter(|address| Family::of(address) == family));
        let why = if !listed_here.is_empty() {
            format!("listed, but not ready: {listed_here}")
        } else if !pods.is_empty() {
            format!("its endpoints do not list that port: {pods}")
        } else {
            "none is listed".to_owned()
        };
        let (protocol, wanted) = (port.protocol, &port.service_port);
        format!(
            "Service {service} has no ready {family} endpoint for {protocol} port {wanted} ({why})"
        )
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn mend(
    mapping: &AdmittedMapping,
    waiting: Option<&Waiting>,
    family: Family,
    listed: bool,
) -> String {
    let AdmittedMapping { key, service, .. } = mapping;
    match waiting {
        Some(Waiting::NoService { .. }) => {
            format!("create Service {service}, or correct spec.serviceName of {key}")
        }
        Some(Waiting::NoServicePort { .. }) => format!(
            "write one of these in servicePort of {key}, with the protocol of that port, or add the port to Service {service}"
        ),
        Some(Waiting::NoEndpoints { .. }) if listed => format!(
            "find out why they are not ready (their readiness probes), or start another pod of Service {service}"
        ),
        None => format!(
            "give Service {service} an endpoint of {family} (ipFamilies), or use an address of the other family"
        ),
        Some(other) => match other.to_string().split_once("; ") {
            Some((_, mend)) => mend.to_owned(),
            None => other.to_string(),
        },
    }
}
