//! Speed of data messages, in payload bytes per second: the fast paths and the JSON path of v1, and the frames of v2,
//! beside a plain copy.
//!
//! `cargo bench -p codec`

use std::hint::black_box;

use codec::v1::{self, AgentToRelay, StreamData, base64, data};
use codec::v2;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn benches(c: &mut Criterion) {
    for size in [1, 16, 64, 256] {
        let payload: Vec<u8> = (0..size * 1024).map(|i: usize| (i * 7919 % 251) as u8).collect();
        let text = data::encode_agent(ID, &payload);
        let scanned = data::scan_agent(&text).expect("the text is in the usual spelling");

        let mut group = c.benchmark_group(format!("{size} KiB"));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        let mut bench = |name: &str, run: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut *run));
        };

        let mut out = Vec::with_capacity(payload.len());
        bench("memcpy", &mut || {
            out.clear();
            out.extend_from_slice(black_box(&payload));
            black_box(&out);
        });
        // what a frame costs where its payload is copied once; without the copy only header, split and rewrite are left
        let mut frame = Vec::with_capacity(v2::data::HEADER_BYTES + payload.len());
        bench("v2 encode, with a copy", &mut || {
            frame.clear();
            frame.extend_from_slice(&v2::data::header(black_box(7)));
            frame.extend_from_slice(black_box(&payload));
            black_box(&frame);
        });
        bench("v2 decode, with a copy", &mut || {
            out.clear();
            let (stream, payload) = v2::data::split(black_box(&frame)).expect("a whole header");
            out.extend_from_slice(payload);
            black_box((stream, &out));
        });
        bench("v2 relay, in place", &mut || {
            let stream = v2::data::split(black_box(&frame)).map(|(stream, _)| stream);
            v2::data::set_stream(black_box(&mut frame), stream.unwrap_or_default() ^ 1);
        });
        bench("encode, fast", &mut || _ = black_box(data::encode_agent(ID, black_box(&payload))));
        bench("encode, JSON", &mut || {
            let data_base64 = base64::encode(black_box(&payload));
            let message =
                AgentToRelay::TcpData(StreamData { connection_id: ID.into(), data_base64 });
            black_box(v1::encode(&message));
        });
        bench("decode, fast", &mut || {
            out.clear();
            black_box(data::read_agent(black_box(&text), &mut out));
        });
        bench("decode, fast, scan first", &mut || {
            out.clear();
            let data =
                data::scan_agent(black_box(&text)).expect("the text is in the usual spelling");
            black_box(base64::decode_append(data.base64, &mut out))
                .expect("the base64 is canonical");
        });
        bench("decode, JSON", &mut || {
            out.clear();
            let Ok(AgentToRelay::TcpData(data)) = v1::decode(black_box(&text)) else { return };
            black_box(base64::decode_append(&data.data_base64, &mut out))
                .expect("the base64 is canonical");
        });
        bench("relay, fast", &mut || {
            let data =
                data::scan_agent(black_box(&text)).expect("the text is in the usual spelling");
            black_box(data::wrap_client(data.base64));
        });
        bench("relay, JSON", &mut || {
            let Ok(AgentToRelay::TcpData(data)) = v1::decode(black_box(&text)) else { return };
            let data = v1::ClientData { data_base64: data.data_base64 };
            black_box(v1::encode(&v1::RelayToClient::TcpData(data)));
        });
        bench("scan", &mut || _ = black_box(data::scan_agent(black_box(&text))));
        bench("wrap", &mut || _ = black_box(data::wrap_client(black_box(scanned.base64))));
        group.finish();
    }
}

/// A stream, as a relay names it.
const ID: &str = "5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d";

criterion_group!(data_messages, benches);
criterion_main!(data_messages);
