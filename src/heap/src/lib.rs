//! Hands memory of the heap that is free back to the kernel.
//!
//! glibc keeps what was freed between what is in use. After a burst of work, such as a first sync of
//! thousands of Mappings, that is a good part of what the process holds, and it stays so however
//! long the process is quiet.

/// Hands free pages of all arenas back (`malloc_trim(3)`). The C library holds an arena's lock
/// meanwhile, so it is for a moment at which nothing waits. Does nothing with other C libraries.
pub fn release() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "a C function that has no safe wrapper")]
    // SAFETY: it takes no pointer and touches free memory only; glibc marks it MT-Safe.
    let _anything_released = unsafe { libc::malloc_trim(0) };
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::fs;

    /// Resident anonymous memory in KiB (`proc_pid_status(5)`).
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_lies_free_between_what_is_used_is_handed_back() {
        let mut kept: Vec<Box<[u8; 1024]>> = (0..32_768).map(|_| Box::new([1; 1024])).collect();
        // Every hundredth stays, so that the heap cannot shrink from its end.
        let mut number = 0;
        kept.retain(|_| {
            number += 1;
            number % 100 == 0
        });
        let before = resident();
        super::release();
        let after = resident();
        assert!(after + 16_384 < before, "{before} KiB before, {after} KiB after");
        assert_eq!(kept.len(), 327);
    }
}
