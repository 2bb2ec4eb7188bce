//! A packet that no Mapping has: to the host itself (T3), out by egress (T13), or through (T4).

use std::net::IpAddr;

use super::foreign::{Finding, Passing};
use super::near::Near;
use super::others::Course;
use super::outcome::{Cause, Origin, Question, ReplyWay, Stage, Verdict};
use super::route::{Hop, Way, holder};
use super::walk::{End, Walk};
use crate::dataplane::EgressPlane;
use crate::model::{Family, Protocol};

impl<'a> Walk<'a> {
    /// To an address of this host.
    pub(super) fn end_here(&mut self) -> End {
        let near = self.nearest();
        let end = self.on_arrival().unwrap_or_else(|| self.reach_host());
        blame(end, near)
    }

    fn reach_host(&mut self) -> End {
        let guarded = self.uplink().filter(|(_, uplink)| uplink.guarded);
        if let Some((name, _)) = guarded.filter(|_| !self.is_dhcp()) {
            let text = format!("the guard of {name} drops what is for this host itself");
            self.stop(Stage::Guard, text.clone());
            return End::because(Verdict::Dropped, Cause::AddressNotMapped, text);
        }
        if let Err((stage, end)) = self.reverse_path(None) {
            self.stop(stage, end.summary.clone());
            return end;
        }
        if let Some((name, _)) = self.uplink() {
            self.pass(Stage::Guard, format!("{name} has no guard: it goes to this host itself"));
        }
        if let Some(end) = self.others_before_host() {
            return end;
        }
        let address = self.question.destination;
        let on = holder(&self.scene.host, address).unwrap_or("lo");
        let text = format!("{address} is this host's own (on {on}); a process of it may answer");
        self.pass(Stage::Route, text.clone());
        End::well(Verdict::Host, text)
    }

    /// What others do on the way to this host.
    fn others_before_host(&mut self) -> Option<End> {
        let met = if self.origin == Origin::Local {
            self.others_by_loopback(Course::SentUnknown, Course::TakenInUnknown)
        } else {
            let packet = self.first_packet();
            self.others_on(Course::TakenInUnknown, &packet).map(|met| (met, packet))
        };
        met.map(|((cause, finding), packet)| self.dropped_by_others(cause, finding, &packet))
    }

    /// What the guard lets through although nobody asked for it.
    fn is_dhcp(&self) -> bool {
        let Question { protocol, source_port, port, .. } = &self.question;
        let ports = match self.family() {
            Family::V4 => (67, 68),
            Family::V6 => (547, 546),
        };
        *protocol == Protocol::Udp && (*source_port, *port) == (Some(ports.0), ports.1)
    }

    /// To somewhere beyond this host.
    pub(super) fn through(&mut self) -> End {
        let near = self.nearest();
        let end = self.on_arrival().unwrap_or_else(|| self.onwards());
        blame(end, near)
    }

    pub(super) fn onwards(&mut self) -> End {
        if let Some((name, _)) = self.uplink().filter(|(_, uplink)| uplink.dedicated) {
            let text = format!("what arrives on uplink {name} is forwarded only for a Mapping");
            self.stop(Stage::Route, text.clone());
            return End::because(Verdict::Dropped, Cause::NoTransit, text);
        }
        let egress = self.egress_plane();
        let mark = egress.map_or(self.uplink_mark(), |(_, plane)| self.egress_mark(plane));
        let to = self.question.destination;
        let found = self.router.look_up(to, mark, &self.routing_input());
        let Some(Way::Onwards(hop)) = found else { return self.nowhere(egress) };
        if let Err((stage, end)) = self.reverse_path(Some(&hop)) {
            self.stop(stage, end.summary.clone());
            return end;
        }
        match egress {
            Some((address, plane)) if plane.uplink == hop.interface => {
                self.leave_by_egress(address, plane, &hop)
            }
            _ => self.pass_through(&hop),
        }
    }

    /// The external address that the source leaves with, if it is a pod with egress.
    fn egress_plane(&self) -> Option<(IpAddr, &'a EgressPlane)> {
        // A pod that connects to an external endpoint is a client like any other (T12).
        let is_client = self.owner().is_some();
        if self.origin == Origin::Local || self.uplink().is_some() || is_client {
            return None;
        }
        let source = self.question.source;
        let planes = self.dataplane().egress.iter();
        let mut of_source = planes.filter(|(_, plane)| plane.pods.contains(&source));
        of_source.next().map(|(address, plane)| (*address, plane))
    }

    fn egress_mark(&self, plane: &EgressPlane) -> u32 {
        let marks = self.dataplane().marks;
        let number = self.dataplane().uplinks.get(&plane.uplink).map(|uplink| uplink.number);
        number.map_or(0, |number| marks.uplink_mark(number) | marks.egress)
    }

    fn nowhere(&mut self, egress: Option<(IpAddr, &EgressPlane)>) -> End {
        let to = self.question.destination;
        let text = match egress {
            Some((_, plane)) => {
                format!("no route leads to {to} by uplink {}, where egress goes", plane.uplink)
            }
            None => format!("no route leads to {to}"),
        };
        self.stop(Stage::Route, text.clone());
        let mend = egress.map(|(_, plane)| {
            let name = &plane.uplink;
            format!("bring {name} up and give it its router: --gateway {name}=ADDRESS")
        });
        End::because(Verdict::Dropped, Cause::NoRoute, text)
            .mend(mend.unwrap_or_else(|| format!("ip route add {to} via GATEWAY")))
    }

    fn leave_by_egress(&mut self, address: IpAddr, plane: &EgressPlane, hop: &Hop) -> End {
        let source = self.question.source;
        let accepted = &self.compiled.admission.accepted;
        let mut with_it: Vec<_> =
            accepted.values().filter(|m| m.egress && m.addresses.contains(&address)).collect();
        with_it.sort_by_key(|m| (m.created.is_none(), m.created, &m.key));
        let lists = |m: &&&crate::admit::AdmittedMapping| {
            let ports = self.compiled.resolved.get(&m.key).into_iter().flatten();
            let family = Family::of(&source);
            ports.flat_map(|p| p.families.of(family).listed.keys()).any(|e| e.address == source)
        };
        let owner = with_it.iter().find(lists).map(|m| m.key.clone());
        let by = owner.as_ref().map(|key| format!(" of {key}")).unwrap_or_default();
        self.mapping = owner;
        self.field = Some("spec.egress".to_owned());
        self.pass(Stage::Mapping, format!("{source} is a pod with egress{by} (spec.egress)"));
        self.pass(Stage::Translation, format!("it leaves from {address}"));
        if !self.is_up(&hop.interface) {
            return self.link_down(&hop.interface);
        }
        self.pass(Stage::Route, format!("by uplink {}", hop.describe()));
        let packet = Passing { output: Some(hop.interface.clone()), ..self.first_packet() };
        if let Some(end) = self.hindered_on(Course::Forwarded, &packet) {
            return end;
        }
        let mut reply = packet.clone();
        (reply.source, reply.destination) = (packet.destination, packet.source);
        (reply.source_port, reply.port) = (packet.port, packet.source_port);
        (reply.input, reply.output) = (packet.output.clone(), packet.input.clone());
        reply.reply = true;
        let arriving = Passing { destination: address, output: None, ..reply.clone() };
        if let Some((cause, finding)) = self.others_on_arrival(&arriving) {
            return self.dropped_by_others(cause, finding, &arriving);
        }
        if let Some(end) = self.hindered_on(Course::Forwarded, &reply) {
            return end;
        }
        self.pass(Stage::Return, format!("replies to {address} are translated back to {source}"));
        self.egress = Some(ReplyWay {
            interface: Some(plane.uplink.clone()),
            gateway: hop.gateway,
            source: address,
        });
        End::well(
            Verdict::Egress,
            format!("it leaves by uplink {} from {address}{by}", plane.uplink),
        )
    }

    fn pass_through(&mut self, hop: &Hop) -> End {
        let name = hop.interface.clone();
        self.pass(Stage::Route, format!("by {}", hop.describe()));
        let dropped = |cause, text: &str| End::because(Verdict::Dropped, cause, text);
        let local = self.origin == Origin::Local;
        let external =
            self.dataplane().uplinks.values().any(|u| u.addresses.contains(&self.question.source));
        if self.is_dedicated(&name) && !(local && external) {
            let text = format!("nothing but a Mapping's leaves by uplink {name}");
            self.stop(Stage::Route, text.clone());
            return dropped(Cause::NoTransit, &text)
                .mend("for pods: spec.egress: true of a Mapping that selects them");
        }
        if !local && self.dataplane().closed_forwarding.contains(&self.family()) {
            let text = "forwarding was off before SmartNat: only Mappings' packets are forwarded";
            self.stop(Stage::Route, text);
            return dropped(Cause::ForwardingClosed, text)
                .mend("if this host shall route, switch forwarding on before SmartNat starts");
        }
        if !self.is_up(&name) {
            return self.link_down(&name);
        }
        let packet = Passing { output: Some(name.clone()), ..self.first_packet() };
        let course = if local { Course::SentUnknown } else { Course::ForwardedUnknown };
        if let Some(end) = self.hindered_on(course, &packet) {
            return end;
        }
        End::well(Verdict::Passes, format!("no Mapping concerns it; the host routes it by {name}"))
    }

    fn is_up(&self, interface: &str) -> bool {
        self.scene.host.links.get(interface).is_some_and(|link| link.up)
    }

    fn link_down(&mut self, interface: &str) -> End {
        let text = format!("{interface} is down or has no carrier");
        self.stop(Stage::Route, text.clone());
        End::because(Verdict::Dropped, Cause::InterfaceDown, text)
    }

    fn hindered_on(&mut self, course: Course, packet: &Passing) -> Option<End> {
        let (cause, finding) = self.others_on(course, packet)?;
        Some(self.dropped_by_others(cause, finding, packet))
    }

    fn dropped_by_others(&mut self, cause: Cause, finding: Finding, packet: &Passing) -> End {
        let whose = if packet.reply { "the reply" } else { "it" };
        let text = format!("{} drops {whose}", finding.what);
        self.stop(Stage::Others, text.clone());
        End::because(Verdict::Dropped, cause, text).mend(finding.mend)
    }
}

/// What no Mapping has ends as it ends; the nearest Mapping says why.
fn blame(end: End, near: Option<Near>) -> End {
    let Some(Near { cause, text, mend }) = near else { return end };
    match end.cause {
        Some(Cause::ForeignDrop | Cause::ForeignTranslation) => end,
        _ => End { verdict: end.verdict, cause: Some(cause), summary: text, mend: vec![mend] },
    }
}
