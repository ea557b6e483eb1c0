//! The pump between a made-up stream and local pipes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::Poll;

use mux::v1::{Read, Room};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::bell::Bell;
use transport::pump::{Pumped, Seat, inbound, outbound};

/// A stream whose far side is the test.
#[derive(Default)]
struct Stream {
    state: RefCell<State>,
    readable: Bell,
    writable: Bell,
}

struct State {
    arriving: VecDeque<Vec<u8>>,
    finished: bool,
    cut: bool,
    progress: usize,
    room: Room,
    written: Vec<Vec<u8>>,
    /// Messages that fit until the test makes room.
    fits: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            arriving: VecDeque::new(),
            finished: false,
            cut: false,
            progress: 0,
            room: Room::Ready,
            written: Vec::new(),
            fits: usize::MAX,
        }
    }
}

impl Stream {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.borrow_mut());
        self.readable.ring();
        self.writable.ring();
    }
}

impl Seat for Stream {
    fn read(&self, into: &mut Vec<u8>) -> Read {
        let mut state = self.state.borrow_mut();
        match state.arriving.pop_front() {
            _ if state.cut => Read::Over,
            Some(bytes) => {
                *into = bytes;
                Read::Data { resumed: false }
            }
            None if state.finished => Read::Finished,
            None => Read::Empty,
        }
    }

    fn progress(&self) {
        self.state.borrow_mut().progress += 1;
    }

    fn room(&self) -> Room {
        let state = self.state.borrow();
        match state.room {
            Room::Ready if state.written.len() >= state.fits => Room::Full,
            room => room,
        }
    }

    fn write(&self, payload: &[u8]) {
        assert_eq!(self.room(), Room::Ready, "written without room");
        self.state.borrow_mut().written.push(payload.to_vec());
    }

    fn chunk(&self) -> usize {
        4
    }

    fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }

    fn readable(&self) -> &Bell {
        &self.readable
    }

    fn writable(&self) -> &Bell {
        &self.writable
    }
}

/// Polls once, to let a pump go as far as it can.
async fn stays_pending(future: std::pin::Pin<&mut impl Future<Output = Pumped>>) {
    let mut future = Some(future);
    std::future::poll_fn(|cx| {
        let Some(future) = future.take() else { unreachable!("polled once") };
        assert!(future.poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn what_the_source_gives_goes_out_in_chunks_until_it_ends() {
    let stream = Stream::default();
    let pumped = outbound(&stream, &b"abcdefghij"[..]).await;
    assert!(matches!(pumped, Pumped::Finished));
    assert_eq!(stream.state.borrow().written, [&b"abcd"[..], b"efgh", b"ij"]);
}

#[tokio::test]
async fn nothing_is_read_while_the_stream_has_no_room() {
    let stream = Stream::default();
    stream.change(|state| state.fits = 1);
    let (near, mut far) = tokio::io::duplex(64);
    far.write_all(b"abcdefgh").await.unwrap();
    let mut pumping = std::pin::pin!(outbound(&stream, near));
    stays_pending(pumping.as_mut()).await;
    assert_eq!(stream.state.borrow().written, [b"abcd"]);
    stream.change(|state| state.fits = 2);
    stays_pending(pumping.as_mut()).await;
    assert_eq!(stream.state.borrow().written, [b"abcd", b"efgh"]);
    stream.change(|state| state.room = Room::Over);
    assert!(matches!(pumping.await, Pumped::Over));
}

#[tokio::test]
async fn a_stream_that_ends_under_a_silent_source_is_noticed() {
    let stream = Stream::default();
    let (near, _far) = tokio::io::duplex(64);
    let mut pumping = std::pin::pin!(outbound(&stream, near));
    stays_pending(pumping.as_mut()).await;
    stream.change(|state| state.room = Room::Over);
    assert!(matches!(pumping.await, Pumped::Over));
}

#[tokio::test]
async fn what_arrives_is_written_in_order_however_little_the_sink_takes() {
    let stream = Stream::default();
    stream.change(|state| state.arriving.extend([b"abcdefgh".to_vec(), b"ij".to_vec()]));
    let (near, mut far) = tokio::io::duplex(3);
    let reading = async {
        let mut got = vec![0; 10];
        far.read_exact(&mut got).await.unwrap();
        stream.change(|state| state.finished = true);
        got
    };
    let (pumped, got) = tokio::join!(inbound(&stream, near), reading);
    assert!(matches!(pumped, Pumped::Finished));
    assert_eq!(got, b"abcdefghij");
    assert!(stream.state.borrow().progress >= 4, "each step of the sink counts");
}

#[tokio::test]
async fn a_cut_stream_does_not_wait_for_its_sink() {
    let stream = Stream::default();
    stream.change(|state| state.arriving.push_back(b"abcdefgh".to_vec()));
    let (near, _far) = tokio::io::duplex(3);
    let mut pumping = std::pin::pin!(inbound(&stream, near));
    stays_pending(pumping.as_mut()).await;
    stream.change(|state| state.finished = true);
    stays_pending(pumping.as_mut()).await;
    stream.change(|state| state.cut = true);
    assert!(matches!(pumping.await, Pumped::Over));
}

#[tokio::test]
async fn a_broken_sink_is_reported() {
    let stream = Stream::default();
    stream.change(|state| state.arriving.push_back(b"abcdefgh".to_vec()));
    let (near, far) = tokio::io::duplex(3);
    drop(far);
    assert!(matches!(inbound(&stream, near).await, Pumped::Failed(_)));
}
