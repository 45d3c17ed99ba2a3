//! What clients and back ends send as JSON, as every request that there is.
#![no_main]

use academy_rt::contract::decode;
use academy_rt::contract::requests::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = decode::request::<ChatJoin>(text);
    let _ = decode::request::<ChatMessage>(text);
    let _ = decode::request::<ChatEdit>(text);
    let _ = decode::request::<ChatTyping>(text);
    let _ = decode::request::<ChatHistory>(text);
    let _ = decode::request::<ProgressSync>(text);
    let _ = decode::request::<ProgressGet>(text);
    let _ = decode::request::<NotificationList>(text);
    let _ = decode::request::<NotificationRead>(text);
    let _ = decode::request::<Broadcast>(text);
    let _ = decode::request::<NotificationContent>(text);
    let _ = decode::request::<academy_rt::contract::care::HoldRequest>(text);
    let _ = academy_rt::contract::packet::frame_len(text.as_bytes());
    let _ = academy_rt::contract::packet::json_of(text.as_bytes());
});
