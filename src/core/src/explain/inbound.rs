//! A packet for an external endpoint that a Mapping has (T1, T2, T6, T7, T11, T12).

use std::net::IpAddr;

use ipnet::IpNet;

use super::foreign::{Finding, Passing};
use super::others::Course;
use super::outcome::{Cause, EndpointWay, Progress, ReplyWay, Stage, Verdict};
use super::route::{Hop, LOOPBACK, Way, is_own, masquerade_address};
use super::walk::{End, Walk, joined, listed};
use crate::dataplane::MappingPlane;
use crate::model::{Family, ObjectKey, ServiceEndpoint};

/// The way to one endpoint and back, with what stops it.
struct Leg {
    way: EndpointWay,
    /// How the packet goes on, for people; empty if it does not.
    route: String,
    reply: String,
    end: Option<(Stage, End)>,
}

impl<'a> Walk<'a> {
    /// The end of the way if a Mapping has the external endpoint on this host.
    pub(super) fn inbound(&mut self) -> Option<End> {
        let (key, plane, position) = self.owner()?;
        self.mapping = Some(key.clone());
        self.field = Some(format!("spec.ports[{position}]"));
        self.pass(Stage::Mapping, format!("{key} has {} (spec.ports[{position}])", self.asked()));
        for (rejected, why) in self.rejected_claims() {
            self.pass(Stage::Mapping, format!("{rejected} wants it too, but is rejected: {why}"));
        }
        let ours_first = self.translates_first() && self.is_settled(plane, position);
        let hindrance = if ours_first { self.before_translation() } else { self.on_arrival() };
        Some(hindrance.unwrap_or_else(|| self.serve(key, plane, position)))
    }

    /// Whether our rules drop or translate it, so that no translation of others comes after them.
    fn is_settled(&self, plane: &MappingPlane, position: usize) -> bool {
        let endpoints = plane.ports[position].endpoints.get(&self.family());
        let served = endpoints.is_some_and(|endpoints| !endpoints.active.is_empty());
        served || !plane.sources.allows(self.question.source)
    }

    /// The Mapping that has the external endpoint on this host, and which of its ports.
    pub(super) fn owner(&self) -> Option<(&'a ObjectKey, &'a MappingPlane, usize)> {
        let question = &self.question;
        self.dataplane().mappings.iter().find_map(|(key, plane)| {
            let position = plane
                .ports
                .iter()
                .position(|p| p.protocol == question.protocol && p.ports.contains(question.port))?;
            plane.addresses.contains(&question.destination).then_some((key, plane, position))
        })
    }

    /// What others do before our translation.
    pub(super) fn on_arrival(&mut self) -> Option<End> {
        let packet = self.first_packet();
        let found = self.others_on_arrival(&packet).or_else(|| self.others_translate(&packet));
        found.map(|(cause, finding)| self.stopped_by_others(cause, finding))
    }

    /// The same without translations of others.
    fn before_translation(&mut self) -> Option<End> {
        let packet = self.first_packet();
        let found = self.others_on_arrival(&packet);
        found.map(|(cause, finding)| self.stopped_by_others(cause, finding))
    }

    fn stopped_by_others(&mut self, cause: Cause, finding: Finding) -> End {
        let does = if cause == Cause::ForeignDrop { "drops it" } else { "translates it first" };
        let text = format!("{} {does}", finding.what);
        self.stop(Stage::Others, text.clone());
        End::because(Verdict::Dropped, cause, text).mend(finding.mend)
    }

    fn serve(&mut self, key: &ObjectKey, plane: &MappingPlane, position: usize) -> End {
        if !self.source_is_allowed(key, plane) {
            return self.refused(key);
        }
        if let Some((name, _)) = self.uplink().filter(|(_, uplink)| uplink.guarded) {
            self.pass(
                Stage::Guard,
                format!("the guard of {name} lets it pass, as a Mapping has it"),
            );
        }
        let family = self.family();
        let port = &plane.ports[position];
        let active = port.endpoints.get(&family).map_or(&[][..], |set| &set.active);
        if active.is_empty() {
            return self.nobody_home(key, position);
        }
        let offset = self.question.port - port.ports.first();
        let endpoints: Vec<ServiceEndpoint> =
            active.iter().map(|e| ServiceEndpoint { port: e.port + offset, ..*e }).collect();
        self.choice(key, &endpoints, port.affinity_seconds);
        let masquerade = plane.masquerade || self.uplink().is_none();
        self.translation(plane, masquerade);
        let legs: Vec<Leg> = endpoints.iter().map(|e| self.leg(*e, masquerade)).collect();
        self.verdict(key, legs)
    }

    fn source_is_allowed(&mut self, key: &ObjectKey, plane: &MappingPlane) -> bool {
        let source = self.question.source;
        let written = self.written_sources(key);
        if !plane.sources.allows(source) {
            return false;
        }
        let text = match written.iter().find(|(_, net)| net.contains(&source)) {
            Some((i, net)) => format!("{source} is in spec.allowedSources[{i}] ({net})"),
            None => format!("{key} has no spec.allowedSources: everyone may connect"),
        };
        self.pass(Stage::Source, text);
        true
    }

    /// The entries of `spec.allowedSources` with their positions.
    fn written_sources(&self, key: &ObjectKey) -> Vec<(usize, IpNet)> {
        let texts = self.scene.cluster.mappings.get(key).map(|m| &m.spec.allowed_sources);
        let parse = |text: &String| {
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        let parsed = texts.into_iter().flatten().enumerate();
        parsed.filter_map(|(i, text)| Some((i, parse(text)?))).collect()
    }

    fn refused(&mut self, key: &ObjectKey) -> End {
        let source = self.question.source;
        let of_family: Vec<(usize, IpNet)> = self
            .written_sources(key)
            .into_iter()
            .filter(|(_, net)| Family::of(&net.addr()) == Family::of(&source))
            .collect();
        let nearest = of_family.iter().max_by_key(|(i, net)| {
            (common_bits(net.addr(), source).min(net.prefix_len()), std::cmp::Reverse(*i))
        });
        let (field, near) = nearest.map_or_else(
            || {
                (
                    "spec.allowedSources".to_owned(),
                    format!("it has none of {}", Family::of(&source)),
                )
            },
            |(i, net)| {
                let field = format!("spec.allowedSources[{i}]");
                let near = format!("nearest: {field}, {net}");
                (field, near)
            },
        );
        self.field = Some(field);
        let text =
            format!("the source {source} is in none of spec.allowedSources of {key} ({near})");
        self.stop(Stage::Source, format!("{text}; silently dropped"));
        let bits = Family::of(&source).bits();
        // To an address that is switched off the host may say so, as to any that it does not have.
        let own = is_own(&self.scene.host, self.question.destination);
        let verdict = if own { Verdict::Refused } else { Verdict::Dropped };
        End::because(verdict, Cause::SourceRefused, text).mend(format!(
            "if {source} may connect, add {source}/{bits} or its network to spec.allowedSources of {key}"
        ))
    }

    fn choice(&mut self, key: &ObjectKey, endpoints: &[ServiceEndpoint], affinity: Option<u32>) {
        let service = self.compiled.admission.accepted.get(key).map(|m| m.service.to_string());
        let how = match (endpoints.len(), affinity) {
            (1, _) => "the only endpoint".to_owned(),
            (n, None) => format!("one of {n} by chance"),
            (n, Some(seconds)) => format!("one of {n}, the same for {seconds} s (sessionAffinity)"),
        };
        let service = service.unwrap_or_default();
        self.pass(Stage::Endpoint, format!("Service {service}: {} ({how})", listed(endpoints)));
    }

    fn translation(&mut self, plane: &MappingPlane, masquerade: bool) {
        let source = self.question.source;
        let text = match (masquerade, plane.masquerade) {
            (true, true) => "the endpoint sees the gateway's address (masquerade)".to_owned(),
            (true, false) => {
                "the endpoint sees the gateway's address: it comes from inside (hairpin)".to_owned()
            }
            (false, _) => format!(
                "the endpoint sees {source} (masquerade is off): it must route replies by this host"
            ),
        };
        self.pass(Stage::Translation, text);
    }

    fn leg(&mut self, endpoint: ServiceEndpoint, masquerade: bool) -> Leg {
        let mut leg = Leg {
            way: EndpointWay {
                endpoint,
                interface: None,
                source: None,
                reply: None,
                obstacle: None,
            },
            route: String::new(),
            reply: String::new(),
            end: None,
        };
        let stopped = self.go(&mut leg, masquerade).err();
        leg.way.obstacle = stopped.as_ref().and_then(|(_, end)| end.cause);
        leg.end = stopped;
        leg
    }

    fn go(&mut self, leg: &mut Leg, masquerade: bool) -> Result<(), (Stage, End)> {
        let endpoint = leg.way.endpoint;
        let mark = self.uplink_mark();
        let Some(way) = self.router.look_up(endpoint.address, mark, &self.routing_input()) else {
            return Err(no_route(format!("no route leads to the endpoint {}", endpoint.address)));
        };
        let hop = match way {
            Way::Local => None,
            Way::Onwards(hop) => Some(hop),
        };
        self.reverse_path(hop.as_ref())?;
        match &hop {
            Some(hop) => {
                leg.route = hop.describe();
                leg.way.interface = Some(hop.interface.clone());
                self.may_leave(hop, endpoint, masquerade)?;
            }
            None => leg.route.push_str("a process of this host"),
        }
        let course = match (&hop, self.input()) {
            (Some(_), Some(_)) => Course::Forwarded,
            (None, Some(_)) => Course::TakenIn,
            (_, None) => Course::Sent,
        };
        let mut packet = self.first_packet();
        packet.destination = endpoint.address;
        packet.port = Some(endpoint.port);
        packet.output = hop.as_ref().map(|hop| hop.interface.clone());
        packet.translated = true;
        self.hindered(course, &packet)?;
        leg.way.source = match (&hop, masquerade) {
            (Some(hop), true) => {
                let seen = masquerade_address(&self.scene.host, hop, endpoint.address);
                let missing = || {
                    no_route(format!("{} has no address of the endpoint's family", hop.interface))
                };
                Some(seen.ok_or_else(missing)?)
            }
            // By way of the loopback interface, whose choice of an address is of no use to anybody.
            (None, true) if self.input().is_none() => None,
            _ => Some(self.question.source),
        };
        self.back(leg, hop.as_ref())
    }

    /// The kernel drops what it has no way back for before it looks at anything else (IPv4).
    pub(super) fn reverse_path(&self, hop: Option<&Hop>) -> Result<(), (Stage, End)> {
        let Some((name, _)) = self.uplink() else { return Ok(()) };
        let source = self.question.source;
        let output = hop.map_or(LOOPBACK, |hop| &hop.interface);
        let known = self.router.look_up(source, self.uplink_mark(), output).is_some();
        if known || source.is_ipv6() { Ok(()) } else { Err(self.no_return(Some(name))) }
    }

    fn may_leave(
        &self,
        hop: &Hop,
        endpoint: ServiceEndpoint,
        masquerade: bool,
    ) -> Result<(), (Stage, End)> {
        let name = &hop.interface;
        if !self.scene.host.links.get(name).is_some_and(|link| link.up) {
            let text = format!("{name}, which leads to the endpoint {endpoint}, is down");
            return Err(no_route(text));
        }
        if self.is_dedicated(name) && !masquerade {
            let text =
                format!("the endpoint {endpoint} is behind uplink {name}, and masquerade is off");
            let end = End::because(Verdict::Dropped, Cause::NoTransit, text);
            return Err((
                Stage::Route,
                end.mend(format!("add a route to {} that leads inside", endpoint.address))
                    .mend("or set spec.masquerade: true"),
            ));
        }
        Ok(())
    }

    fn hindered(&mut self, course: Course, packet: &Passing) -> Result<(), (Stage, End)> {
        let Some((cause, finding)) = self.others_on(course, packet) else { return Ok(()) };
        Err(hindrance(packet, cause, finding))
    }

    /// What others do to a reply as it comes in, before it is translated back.
    fn reply_arrives(&mut self, packet: &Passing, to: Option<IpAddr>) -> Result<(), (Stage, End)> {
        let arriving = Passing { destination: to.unwrap_or(packet.destination), ..packet.clone() };
        match self.others_on_arrival(&arriving) {
            Some((cause, finding)) => Err(hindrance(packet, cause, finding)),
            None => Ok(()),
        }
    }

    /// The way of the reply (T11).
    fn back(&mut self, leg: &mut Leg, hop: Option<&Hop>) -> Result<(), (Stage, End)> {
        let external = self.question.destination;
        let mut packet = self.first_packet();
        packet.source = leg.way.endpoint.address;
        packet.source_port = Some(leg.way.endpoint.port);
        packet.destination = self.question.source;
        packet.port = self.question.source_port;
        packet.input = hop.map(|hop| hop.interface.clone());
        packet.reply = true;
        packet.translated = true;
        if hop.is_some() {
            self.reply_arrives(&packet, leg.way.source)?;
        }
        if self.input().is_none() {
            self.hindered(Course::TakenIn, &packet)?;
            leg.reply.push_str("to the process of this host that asked");
            leg.way.reply = Some(ReplyWay { interface: None, gateway: None, source: external });
            return Ok(());
        }
        let out = self.return_hop(hop)?;
        packet.output = Some(out.interface.clone());
        let course = if hop.is_some() { Course::Forwarded } else { Course::Sent };
        self.hindered(course, &packet)?;
        leg.reply = out.describe();
        leg.way.reply = Some(ReplyWay {
            interface: Some(out.interface),
            gateway: out.gateway,
            source: external,
        });
        Ok(())
    }

    fn return_hop(&self, hop: Option<&Hop>) -> Result<Hop, (Stage, End)> {
        let client = self.question.source;
        let mark = self.uplink_mark();
        let uplink = self.uplink().map(|(name, _)| name);
        let input = hop.map_or(LOOPBACK, |hop| &hop.interface);
        // A UDP or SCTP socket of this host asks for a route before its packet has a mark.
        let unmarked = hop.is_none() && self.question.protocol != crate::model::Protocol::Tcp;
        if unmarked && self.router.look_up(client, 0, LOOPBACK).is_none() {
            return Err(self.no_return(uplink));
        }
        match self.router.look_up(client, mark, input) {
            Some(Way::Onwards(out))
                if self.scene.host.links.get(&out.interface).is_some_and(|l| l.up) =>
            {
                Ok(out)
            }
            _ => Err(self.no_return(uplink)),
        }
    }

    /// Nothing leads back to the client.
    pub(super) fn no_return(&self, uplink: Option<&str>) -> (Stage, End) {
        let client = self.question.source;
        let because = |text| End::because(Verdict::Dropped, Cause::NoReturnRoute, text);
        let Some(name) = uplink else {
            let text = format!("no route leads back to {client}");
            return (
                Stage::Return,
                because(text).mend(format!("ip route add {client} via GATEWAY")),
            );
        };
        let family = Family::of(&client);
        let end = because(format!(
            "no way back to {client}: uplink {name} has no {family} gateway, and {client} is not on its link"
        ))
        .mend(format!("give it its router: --gateway {name}=ADDRESS (or gateways.{name} in --config)"))
        .mend(format!("or a default route: ip route add default via ADDRESS dev {name} metric 1000"));
        (Stage::Return, end)
    }

    fn verdict(&mut self, key: &ObjectKey, legs: Vec<Leg>) -> End {
        self.tell(&legs);
        let (good, bad): (Vec<&Leg>, Vec<&Leg>) = legs.iter().partition(|leg| leg.end.is_none());
        let endpoints = joined(good.iter().map(|leg| leg.way.endpoint), " or ");
        let also = self.losers_of_it();
        let end = match (good.first(), bad.first().and_then(|leg| leg.end.as_ref())) {
            (Some(_), None) => {
                End::well(Verdict::Delivered, format!("{key} sends it to {endpoints}{also}"))
            }
            (Some(_), Some((_, end))) => {
                let lost = joined(bad.iter().map(|leg| leg.way.endpoint), ", ");
                let text =
                    format!("{key} sends it to {endpoints}, but not to {lost}: {}", end.summary);
                End { verdict: Verdict::PartlyDelivered, summary: text, ..copy(end) }
            }
            (None, Some((_, end))) => copy(end),
            (None, None) => End::well(Verdict::Dropped, "no endpoint is left"),
        };
        self.endpoints = legs.into_iter().map(|leg| leg.way).collect();
        end
    }

    /// One step for all legs that go the same way.
    fn tell(&mut self, legs: &[Leg]) {
        for leg in legs.iter().filter(|leg| !leg.route.is_empty()) {
            let alike =
                legs.iter().filter(|l| l.route == leg.route && l.way.source == leg.way.source);
            let to = listed(alike.map(|l| l.way.endpoint.address));
            let from = leg.way.source.map(|s| format!(" from {s}")).unwrap_or_default();
            self.pass(Stage::Route, format!("{from} to {to} by {}", leg.route).trim().to_owned());
        }
        for (stage, end) in legs.iter().filter_map(|leg| leg.end.as_ref()) {
            self.step(*stage, Progress::Stops, end.summary.clone());
        }
        for leg in legs.iter().filter(|leg| !leg.reply.is_empty()) {
            let external = self.question.destination;
            self.pass(Stage::Return, format!("{} from {external}", leg.reply));
        }
    }
}

fn no_route(text: String) -> (Stage, End) {
    let end = End::because(Verdict::Dropped, Cause::NoRouteToEndpoint, text);
    (
        Stage::Route,
        end.mend("add a route to the pods' network, or look at the network of the cluster"),
    )
}

/// The end of a way at somebody else's rule.
fn hindrance(packet: &Passing, cause: Cause, finding: Finding) -> (Stage, End) {
    let whose = if packet.reply { "the reply" } else { "it" };
    let does = if cause == Cause::ForeignDrop { "drops" } else { "translates" };
    let text = format!("{} {does} {whose}", finding.what);
    (Stage::Others, End::because(Verdict::Dropped, cause, text).mend(finding.mend))
}

fn copy(end: &End) -> End {
    End {
        verdict: end.verdict,
        cause: end.cause,
        summary: end.summary.clone(),
        mend: end.mend.clone(),
    }
}

/// How many leading bits two addresses of one family share.
fn common_bits(a: IpAddr, b: IpAddr) -> u8 {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}
