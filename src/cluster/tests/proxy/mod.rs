//! A TCP proxy that plays a bad network.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a server until told otherwise; ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    cuts: watch::Sender<()>,
    refuses: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free loopback port.
    pub(crate) async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (cuts, cut) = watch::channel(());
        let refuses = Arc::new(AtomicBool::new(false));
        let accepting = tokio::spawn(accept(listener, server, cut, Arc::clone(&refuses)));
        Ok(Self { address, cuts, refuses, accepting })
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones work.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Cuts every connection and, from now on, each new one (`true`), or lets them pass again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    cut: watch::Receiver<()>,
    refuses: Arc<AtomicBool>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if refuses.load(Ordering::SeqCst) {
            continue;
        }
        let mut cut = cut.clone();
        // Cuts before this connection are none of its own.
        cut.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                () = pass(client, server) => {}
            }
        });
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    if let Ok(mut upstream) = TcpStream::connect(server).await {
        // However it ends, both ends see it.
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
    }
}
