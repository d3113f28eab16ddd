#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fleetpulse_fuzz::datagram::run(data));
