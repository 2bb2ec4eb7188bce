//! Which network namespace the calling thread is in.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A network namespace of this boot, by the inode that the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkNamespace {
    inode: u64,
}

impl NetworkNamespace {
    /// The namespace of the calling thread, which may differ from its process's.
    pub fn current() -> io::Result<Self> {
        std::fs::metadata("/proc/thread-self/ns/net").map(|m| Self { inode: m.ino() })
    }

    /// Its inode number; the kernel may give it to another one after this one is gone.
    pub fn inode(self) -> u64 {
        self.inode
    }
}

impl fmt::Display for NetworkNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// The kernel's identifier of this boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_a_thread_is_that_of_its_process_unless_it_moved() {
        let here = NetworkNamespace::current().expect("proc is mounted");
        let there = std::thread::spawn(NetworkNamespace::current)
            .join()
            .expect("the thread ends")
            .expect("proc is mounted");
        assert_eq!(here, there);
        assert_ne!(here.inode(), 0);
        assert_eq!(here.to_string(), format!("net:[{}]", here.inode()));
    }

    #[test]
    fn the_boot_has_an_identifier() {
        assert_eq!(boot_id().expect("proc is mounted").len(), 36);
    }
}
