//! A stand-in and an endpoint of protocol v2 on one made-up clock, with nothing between them.

mod agent;
mod client;

use std::time::{Duration, Instant};

use bytes::Bytes;
use mux::v2::{Endpoint, LinkKey, Read, Room, StreamKey, Transmit};

use super::*;

/// The other end of the streams: everything that it is sent is handed on at once, unless a test holds it back.
struct Far {
    endpoint: Endpoint<Quiet>,
    link: LinkKey,
}

impl Far {
    fn new(now: Instant, side: mux::v2::Side) -> Self {
        let mut endpoint = Endpoint::new(now, side, settings(), 7, Quiet);
        let link = endpoint.connect(now, None, Quiet);
        Self { endpoint, link }
    }

    fn handle(&mut self, now: Instant, transmit: Transmit) {
        let handled = match transmit {
            Transmit::Control(message) => self.endpoint.handle_control(now, self.link, message),
            Transmit::Data { stream, payload } => {
                self.endpoint.handle_data(now, self.link, stream, payload)
            }
        };
        handled.expect("a stand-in keeps the rules");
    }

    fn poll(&mut self, now: Instant) -> Option<Transmit> {
        self.endpoint.poll_transmit(now, self.link)
    }

    /// Everything that can be read, which is handed on at once; the end, too.
    fn read(&mut self, now: Instant, key: StreamKey) -> (Vec<u8>, Option<Read>) {
        let mut all = Vec::new();
        loop {
            match self.endpoint.read(key) {
                Read::Data(bytes) => {
                    self.endpoint.consumed(now, key, bytes.len());
                    all.extend_from_slice(&bytes);
                }
                Read::Finished => {
                    self.endpoint.consumed_end(now, key);
                    return (all, Some(Read::Finished));
                }
                Read::Empty => return (all, None),
                over => return (all, Some(over)),
            }
        }
    }

    fn write(&mut self, key: StreamKey, bytes: &[u8]) {
        let room = self.endpoint.room(key);
        assert!(matches!(room, Room::Ready(most) if most >= bytes.len()), "{room:?}");
        self.endpoint.write(key, Bytes::copy_from_slice(bytes));
    }
}

const SECOND: Duration = Duration::from_secs(1);
