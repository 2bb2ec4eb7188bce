//! Watches the packets that pass an interface.

mod packet;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

pub use packet::{Direction, Packet, Transport};

use super::{Lab, LabError, wait_until};

/// `ETH_P_ALL` in network byte order: every protocol.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

/// Most packets that one sniffer keeps; later ones are not recorded.
const PACKETS_MAX: usize = 200_000;

/// How often the thread looks whether it should end.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// Most octets that are read of a packet; headers are at the front.
const SNAP_LENGTH: usize = 2048;

/// Records the IP packets of a host's interface, in the order of arrival, until it is dropped.
#[derive(Debug)]
pub struct Sniffer {
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Starts to record; what passes after the return is seen.
    pub fn start(lab: &Lab, host: &str, interface: &str) -> Result<Self, LabError> {
        let failed = |error| LabError::Socket {
            host: host.into(),
            what: format!("packet on {interface}"),
            error,
        };
        let (socket, index) = lab
            .run(host, || -> io::Result<(Socket, usize)> {
                let index = nix::net::if_::if_nametoindex(interface)?;
                let socket =
                    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERY_PROTOCOL)))?;
                socket.set_read_timeout(Some(STOP_INTERVAL))?;
                socket.set_recv_buffer_size(4 << 20)?;
                Ok((socket, usize::try_from(index).map_err(io::Error::other)?))
            })?
            .map_err(failed)?;
        let packets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (record, stopped) = (Arc::clone(&packets), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name(format!("sniffer-{host}"))
            .spawn(move || capture(&socket, index, &record, &stopped))
            .map_err(LabError::Thread)?;
        Ok(Self { packets, stop, thread: Some(thread) })
    }

    /// What was recorded so far.
    pub fn packets(&self) -> Vec<Packet> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first recorded packet that `wanted` accepts, waiting for it at most for `patience`.
    pub fn wait_for(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&Packet) -> bool,
    ) -> Option<Packet> {
        wait_until(patience, || {
            let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
            packets.iter().find(|p| wanted(p)).copied()
        })
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic in a way that matters to whoever drops this.
            let _ = thread.join();
        }
    }
}

fn capture(socket: &Socket, interface: usize, record: &Mutex<Vec<Packet>>, stop: &AtomicBool) {
    let mut buffer = [0; SNAP_LENGTH];
    while !stop.load(Ordering::Relaxed) {
        // A time-out and a link that went down both end in another look at `stop`.
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        if from.ifindex() != interface {
            continue;
        }
        let Some(direction) = Direction::of_packet_type(from.pkttype()) else { continue };
        let Some(packet) = Packet::parse(direction, &buffer[..length.min(SNAP_LENGTH)]) else {
            continue;
        };
        let mut packets = record.lock().unwrap_or_else(PoisonError::into_inner);
        if packets.len() < PACKETS_MAX {
            packets.push(packet);
        }
    }
}
