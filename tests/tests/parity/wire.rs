//! The far ends of the gateway's links: frames go in there, and what comes out is seen.
//!
//! Sender and gateway work on one processor: what a frame causes is done in the order in which frames
//! were sent, so that an ARP answer tells that everything before it is over. Nothing waits for silence.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use nix::unistd::Pid;
use smartnat::lab::Lab;
use smartnat_sim::walk::Packet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::octets::{decode, encode};

/// `ETH_P_ALL` in network byte order.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// `PACKET_OUTGOING`: what was sent here.
const OUTGOING: u8 = 4;
/// How long an ARP answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Two round trips: what is answered over `lo` takes a step more than the first ARP answer.
const ROUND_TRIPS: usize = 2;

type Mac = [u8; 6];

/// Who asks by ARP; a station that no packet goes to.
pub(crate) const ASKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);

/// A packet that left the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) interface: String,
    /// The station that the frame was for.
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) packet: Packet,
}

pub(crate) struct Wire {
    socket: Socket,
    links: BTreeMap<String, LinkAddr>,
    /// Hardware addresses of the gateway's interfaces.
    gateway: BTreeMap<String, Mac>,
    stations: BTreeMap<Mac, IpAddr>,
    /// Where ARP asks, and for which address of the gateway.
    asked: (String, Ipv4Addr),
}

/// The hardware address of a station by its number.
pub(crate) fn station(number: usize) -> Mac {
    let [high, low] = u16::try_from(number).expect("few stations").to_be_bytes();
    [2, 1, 0, 0, high, low]
}

/// A hardware address as `ip neigh` takes it.
pub(crate) fn written(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// From here on the calling thread, and those it starts, run on one processor.
pub(crate) fn stay_on_one_processor(number: usize) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(number % count).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a processor of this thread's choice");
}

impl Wire {
    /// Opens the far ends in `host`, whose interfaces have the names of the gateway's.
    pub(crate) fn open(
        lab: &Lab,
        host: &str,
        stations: BTreeMap<Mac, IpAddr>,
        asked: (&str, Ipv4Addr),
    ) -> Self {
        let (socket, links) = lab
            .run(host, || -> io::Result<(Socket, BTreeMap<String, LinkAddr>)> {
                let socket =
                    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))?;
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
                socket.set_recv_buffer_size(4 << 20)?;
                let found = getifaddrs()?.filter_map(|entry| {
                    let link = entry.address.and_then(|a| a.as_link_addr().copied())?;
                    Some((entry.interface_name, link))
                });
                Ok((socket, found.filter(|(name, _)| name != "lo").collect()))
            })
            .expect("the host")
            .expect("a packet socket");
        let gateway = links.keys().map(|name| (name.clone(), hardware(lab, name))).collect();
        Self { socket, links, gateway, stations, asked: (asked.0.to_owned(), asked.1) }
    }

    /// Sends a packet to the gateway and returns what leaves it because of that.
    pub(crate) fn exchange(&self, interface: &str, packet: &Packet) -> Vec<Seen> {
        let kind = if packet.source.is_ipv4() { ETHERTYPE_V4 } else { ETHERTYPE_V6 };
        self.send(interface, kind, &encode(packet));
        self.everything_so_far()
    }

    fn send(&self, interface: &str, ethertype: [u8; 2], payload: &[u8]) {
        let mut frame = self.gateway[interface].to_vec();
        frame.extend(station(0));
        frame.extend(ethertype);
        frame.extend(payload);
        let link = &self.links[interface];
        sendto(self.socket.as_raw_fd(), &frame, link, MsgFlags::empty()).expect("a frame is sent");
    }

    /// What has left the gateway until everything that was sent so far is over.
    pub(crate) fn everything_so_far(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..ROUND_TRIPS {
            self.ask();
            self.until_answered(&mut seen);
        }
        seen
    }

    /// RFC 826.
    fn ask(&self) {
        let (interface, target) = &self.asked;
        let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
        request.extend(station(0));
        request.extend(ASKER.octets());
        request.extend([0; 6]);
        request.extend(target.octets());
        self.send(interface, ETHERTYPE_ARP, &request);
    }

    fn until_answered(&self, seen: &mut Vec<Seen>) {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            let received = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer);
            let Ok((length, Some(from))) = received else { continue };
            if from.pkttype() == OUTGOING {
                continue;
            }
            let frame = &buffer[..length.min(buffer.len())];
            let Some((header, payload)) = frame.split_at_checked(14) else { continue };
            if header[12..14] == ETHERTYPE_ARP {
                // Operation 2 is an answer.
                if payload.get(6..8) == Some(&[0, 2]) {
                    return;
                }
                continue;
            }
            let to: Mac = *header.first_chunk().expect("a header");
            let interface = self.links.iter().find(|(_, link)| link.ifindex() == from.ifindex());
            let Some((interface, _)) = interface else { continue };
            let Some(packet) = decode(payload).filter(|p| !is_link_chatter(p)) else { continue };
            let next_hop = self.stations.get(&to).copied();
            seen.push(Seen { interface: interface.clone(), next_hop, packet });
        }
        panic!("the gateway answers no ARP within {PATIENCE:?}");
    }
}

/// Discovery and group messages of the links, and redirects, which are not modelled.
fn is_link_chatter(packet: &Packet) -> bool {
    use smartnat_sim::walk::{Icmp, Payload};
    let chatter = match packet.payload {
        Payload::Icmp(Icmp::Other { kind, .. }) if packet.source.is_ipv6() => {
            (130..=137).contains(&kind) || kind == 143
        }
        Payload::Icmp(Icmp::Other { kind, .. }) => kind == 5,
        _ => false,
    };
    chatter || packet.destination.is_multicast()
}

/// The hardware address of the gateway's interface.
fn hardware(lab: &Lab, interface: &str) -> Mac {
    let path = format!("/sys/class/net/{interface}/address");
    let text = lab.command("gateway", &["ip", "-oneline", "link", "show", "dev", interface]);
    let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|w| *w == "link/ether").expect("an Ethernet interface");
    let octets: Vec<u8> = words[at + 1]
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).expect("a hexadecimal octet"))
        .collect();
    octets.try_into().expect("six octets")
}
