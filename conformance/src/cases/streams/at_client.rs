//! Streams at the client (spec v1, section S).

use codec::v1::{
    CLOSE_INVALID, CLOSE_NORMAL, ERROR_INITIATE_PREFIX, MAX_CHUNK, MAX_FORWARDED_CHUNK,
};
use serde_json::json;

use super::{SINGLES, SIZES, UNREADABLE, bytes_of_size, every_value};
use crate::harness::seeded_bytes;
use crate::kit::{Client, Finding, Outcome, Received};

pub(super) fn input_sizes(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for bytes in SIZES.map(bytes_of_size) {
        // As much as a pipe and sockets hold for certain, so that nobody waits for the kit.
        for piece in bytes.chunks(MAX_CHUNK) {
            client.input(piece)?;
            link.expect_data(piece)?;
        }
    }
    link.expect_quiet()
}

pub(super) fn output_sizes(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for bytes in SIZES.map(bytes_of_size) {
        for piece in bytes.chunks(MAX_FORWARDED_CHUNK) {
            link.data(piece);
        }
        client.expect_output(&bytes)?;
    }
    link.leave()?;
    client.expect_success()
}

pub(super) fn single_bytes_of_user(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    let bytes = bytes_of_size(SINGLES);
    for byte in &bytes {
        client.input(&[*byte])?;
    }
    link.expect_data(&bytes)?;
    for byte in &bytes {
        link.data(&[*byte]);
    }
    client.expect_output(&bytes)
}

pub(super) fn all_values_of_user(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    let bytes = every_value();
    client.input(&bytes)?;
    link.expect_data(&bytes)?;
    link.data(&bytes);
    client.expect_output(&bytes)
}

pub(super) fn clients_chunks(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    let bytes = seeded_bytes(9, 1 << 20);
    client.input_beside(bytes.clone())?;
    let largest = link.sizes_of_data(&bytes)?.largest_payload();
    if largest <= MAX_CHUNK {
        return Ok(());
    }
    Err(Finding::Fail(format!("a message has {largest} bytes of payload")))
}

pub(super) fn empty_data_for_user(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for piece in [&b""[..], b"one", b"", b"", b"two", b""] {
        link.data(piece);
    }
    client.expect_output(b"onetwo")?;
    link.leave()?;
    client.expect_success()
}

pub(super) fn base64_at_client(client: &mut Client) -> Outcome {
    for unreadable in UNREADABLE {
        let mut link = client.open()?;
        link.data(b"before");
        client.expect_output(b"before")?;
        link.send(&json!({ "kind": "tcp_data", "data_base64": unreadable }));
        link.data(b"after");
        match link.receive()? {
            Received::Close(Some(CLOSE_NORMAL | CLOSE_INVALID), _) => drop(link),
            other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
        }
        client.expect_failure()?;
    }
    Ok(())
}

pub(super) fn sentences_at_client(client: &mut Client) -> Outcome {
    for words in [
        "[Errno 111] Connect call failed ('127.0.0.1', 22)",
        "[Errno -2] Name or service not known",
        "Unsupported protocol: udp",
        "",
    ] {
        let mut link = client.start()?;
        link.error(&format!("{ERROR_INITIATE_PREFIX}{words}"));
        match link.receive()? {
            Received::Close(Some(CLOSE_NORMAL), _) => drop(link),
            other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
        }
        client.expect_failure()?;
    }
    Ok(())
}
