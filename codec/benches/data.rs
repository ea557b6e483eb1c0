//! Speed of data messages, in payload bytes per second: the fast paths and the JSON path, beside a plain copy.
//!
//! `cargo bench -p codec`

use std::hint::black_box;

use codec::v1::{self, AgentToRelay, StreamData, base64, data};
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
