//! The bytes of a bulk transfer: reproducible, incompressible, and checked one by one.

use std::io::{ErrorKind, Read, Write};
use std::sync::LazyLock;

use anyhow::{Context as _, bail, ensure};
use conformance::harness::seeded_bytes;

/// Bytes written and read at once: more than a pipe or a hop takes, so that the bench is not what is measured.
const BLOCK: usize = 256 * 1024;

/// How many places of [`POOL`] a block may begin at; the stream repeats after as many blocks.
const PLACES: usize = 1 << 20;

/// What the blocks are cut from.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| seeded_bytes(1, PLACES + BLOCK));

/// The block at an index.
fn block(index: u64) -> &'static [u8] {
    // An odd factor visits every place once before the first comes again.
    let place = (index as usize).wrapping_mul(0x9_e377) % PLACES;
    &POOL[place..place + BLOCK]
}

/// Writes the first `length` bytes of the stream; `taken` hears of every piece.
pub(crate) fn send(
    mut sink: impl Write,
    length: u64,
    mut taken: impl FnMut(usize),
) -> std::io::Result<()> {
    let mut sent = 0;
    while sent < length {
        let (index, offset) = split(sent);
        let block = &block(index)[offset..];
        let most = block.len().min(usize::try_from(length - sent).unwrap_or(usize::MAX));
        let count = match sink.write(&block[..most]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sent += count as u64;
        taken(count);
    }
    sink.flush()
}

/// Reads `length` bytes and compares each with the stream.
pub(crate) fn check(mut source: impl Read, length: u64) -> anyhow::Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut seen = 0;
    while seen < length {
        let read = match source.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("after {seen} bytes")),
        };
        ensure!(read > 0, "the stream ended after {seen} of {length} bytes");
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let (index, offset) = split(seen);
            let expected = &block(index)[offset..];
            let (now, later) = rest.split_at(rest.len().min(expected.len()));
            if now != &expected[..now.len()] {
                bail!("wrong bytes behind the first {seen}");
            }
            seen += now.len() as u64;
            rest = later;
        }
    }
    ensure!(seen == length, "{seen} bytes came of {length}");
    Ok(())
}

/// The block that holds a position, and where in it.
fn split(position: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (position / block, (position % block) as usize)
}
