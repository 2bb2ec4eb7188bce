#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartnat_linux::fuzz_targets::netlink(data));
