//! Our own messages as WebSocket frames, written from where their bytes are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes, BytesMut};
use codec::v2::data::HEADER_BYTES;

use crate::driver::Outgoing;
use crate::websocket::Role;

/// Frames that wait to be written, in order.
///
/// A server's frames share their payload with whoever else holds it. A client's are masked (RFC 6455, section 5.3): the
/// payload of a text is masked where it is, that of a binary message in a copy, since it is kept for a repetition.
#[derive(Debug)]
pub(crate) struct Frames {
    queue: VecDeque<Frame>,
    bytes: usize,
    is_masked: bool,
}

#[derive(Debug)]
struct Frame {
    head: Head,
    payload: Bytes,
}

/// The header of a frame, and what goes before the payload; the part that is not written yet.
#[derive(Debug)]
struct Head {
    bytes: [u8; MAX_HEAD],
    from: usize,
    to: usize,
}

impl Frames {
    pub(crate) fn new(role: Role) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, is_masked: role == Role::Client }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    /// Appends a message as one frame.
    pub(crate) fn push(&mut self, message: Outgoing) {
        let key = self.is_masked.then(rand::random::<[u8; 4]>);
        let (head, payload) = match message {
            Outgoing::Text(text) => {
                let head = Head::new(TEXT, text.len(), key);
                let mut payload = text.into_bytes();
                if let Some(key) = key {
                    mask(&mut payload, key);
                }
                (head, payload.into())
            }
            Outgoing::Binary { mut header, payload } => {
                let mut head = Head::new(BINARY, header.len() + payload.len(), key);
                let payload = match key {
                    Some(key) => {
                        mask(&mut header, key);
                        let mut copy = BytesMut::from(&payload[..]);
                        // The header is as long as the key, so the payload begins with its first byte again.
                        const { assert!(HEADER_BYTES.is_multiple_of(4)) };
                        mask(&mut copy, key);
                        copy.freeze()
                    }
                    None => payload,
                };
                head.append(&header);
                (head, payload)
            }
        };
        self.bytes += head.left().len() + payload.len();
        self.queue.push_back(Frame { head, payload });
    }

    /// What is to be written next, in as many slices as there are.
    pub(crate) fn slices<'s, 'f: 's>(&'f self, slices: &'s mut [IoSlice<'f>]) -> &'s [IoSlice<'f>] {
        let parts = self.queue.iter().flat_map(|frame| [frame.head.left(), &frame.payload[..]]);
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        &slices[..count]
    }

    /// So many bytes were written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(frame) = self.queue.front_mut() {
            let of_head = written.min(frame.head.left().len());
            frame.head.from += of_head;
            written -= of_head;
            let of_payload = written.min(frame.payload.len());
            frame.payload.advance(of_payload);
            written -= of_payload;
            if !frame.head.left().is_empty() || !frame.payload.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
    }
}

impl Head {
    /// The header of an unfragmented frame (RFC 6455, section 5.2).
    fn new(opcode: u8, length: usize, key: Option<[u8; 4]>) -> Self {
        let mut head = Self { bytes: [0; MAX_HEAD], from: 0, to: 0 };
        let masked = if key.is_some() { 0x80 } else { 0 };
        let first = 0x80 | opcode;
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => head.append(&[first, masked | short]),
            (_, Ok(medium)) => {
                head.append(&[first, masked | 126]);
                head.append(&medium.to_be_bytes());
            }
            _ => {
                head.append(&[first, masked | 127]);
                head.append(&(length as u64).to_be_bytes());
            }
        }
        if let Some(key) = key {
            head.append(&key);
        }
        head
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.to..][..bytes.len()].copy_from_slice(bytes);
        self.to += bytes.len();
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }
}

/// Masks bytes that begin with the first one of the key, eight at a time.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Two bytes, eight for the length, four for the key, and what goes before the payload.
const MAX_HEAD: usize = 2 + 8 + 4 + HEADER_BYTES;

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::WebSocket;
    use tokio_tungstenite::tungstenite::{Message, protocol};

    use super::*;

    /// Writes everything, in parts of so many bytes.
    fn written(frames: &mut Frames, part: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let mut part = part;
            let before = all.len();
            for slice in frames.slices(&mut slices) {
                let count = part.min(slice.len());
                all.extend_from_slice(&slice[..count]);
                part -= count;
            }
            frames.advance(all.len() - before);
        }
        assert_eq!(frames.bytes(), 0);
        all
    }

    /// What the library reads from these bytes.
    fn read(bytes: Vec<u8>, role: Role) -> Vec<Message> {
        let end = bytes.len() as u64;
        let config = protocol::WebSocketConfig::default();
        let mut socket = WebSocket::from_raw_socket(Cursor::new(bytes), role, Some(config));
        let mut messages = Vec::new();
        while socket.get_ref().position() < end || messages.len() < 1000 {
            match socket.read() {
                Ok(message) => messages.push(message),
                Err(_) => break,
            }
        }
        let mut rest = Vec::new();
        socket.get_mut().read_to_end(&mut rest).expect("a cursor");
        assert!(rest.is_empty());
        messages
    }

    proptest! {
        #[test]
        fn the_library_reads_what_is_written(
            lengths in prop::collection::vec((any::<bool>(), prop_oneof![0_usize..300, 65_500_usize..65_600]), 0..6),
            masked in any::<bool>(),
            part in 1_usize..70_000,
        ) {
            let (ours, theirs) =
                if masked { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
            let mut frames = Frames::new(ours);
            let mut expected = Vec::new();
            for (is_text, length) in lengths {
                if is_text {
                    let text: String = ('a'..='z').cycle().take(length).collect();
                    frames.push(Outgoing::Text(text.clone()));
                    expected.push(Message::text(text));
                } else {
                    let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
                    let header = [1, 2, 3, 4];
                    let message = [&header[..], &payload].concat();
                    frames.push(Outgoing::Binary { header, payload: payload.into() });
                    expected.push(Message::binary(message));
                }
            }
            prop_assert_eq!(read(written(&mut frames, part), theirs), expected);
        }
    }
}
