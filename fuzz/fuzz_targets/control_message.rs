#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fleetpulse_fuzz::control_message::run(data));
