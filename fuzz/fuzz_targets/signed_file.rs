#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fleetpulse_fuzz::signed_file::run(data));
