#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartnat_cluster::fuzz_targets::manifests(data));
