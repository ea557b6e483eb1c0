//! What it means that the fast paths of data messages do what the JSON path does. The fuzz targets use this file, too.

use codec::v1::{
    self, AgentToRelay, ClientData, ClientToRelay, RelayToAgent, RelayToClient, StreamData, base64,
    data,
};

/// What the JSON path reads from a text of the agent link: the stream and the base64.
fn parsed_agent(text: &str) -> Option<(String, String)> {
    let read = match v1::decode::<AgentToRelay>(text) {
        Ok(AgentToRelay::TcpData(data)) => Some((data.connection_id, data.data_base64)),
        _ => None,
    };
    let other_way = match v1::decode::<RelayToAgent>(text) {
        Ok(RelayToAgent::TcpData(data)) => Some((data.connection_id, data.data_base64)),
        _ => None,
    };
    assert_eq!(read, other_way);
    read
}

/// What the JSON path reads from a text of the client link: the base64.
fn parsed_client(text: &str) -> Option<String> {
    let read = match v1::decode::<ClientToRelay>(text) {
        Ok(ClientToRelay::TcpData(data)) => Some(data.data_base64),
        _ => None,
    };
    let other_way = match v1::decode::<RelayToClient>(text) {
        Ok(RelayToClient::TcpData(data)) => Some(data.data_base64),
        _ => None,
    };
    assert_eq!(read, other_way);
    read
}

/// Whatever a fast path returns, the JSON path returns, too.
pub(crate) fn check_reading(text: &str) {
    let scanned = data::scan_agent(text);
    let mut bytes = b"kept".to_vec();
    let read = data::read_agent(text, &mut bytes);
    assert_eq!(scanned.map(|data| data.connection_id), read);
    if let Some(data) = scanned {
        assert_eq!(
            parsed_agent(text),
            Some((data.connection_id.to_owned(), data.base64.to_owned()))
        );
        check_payload(data.base64, &bytes);
    } else {
        assert_eq!(bytes, b"kept");
    }

    let scanned = data::scan_client(text);
    let mut bytes = b"kept".to_vec();
    let read = data::read_client(text, &mut bytes);
    assert_eq!(scanned.is_some(), read.is_some());
    if let Some(base64) = scanned {
        assert_eq!(parsed_client(text).as_deref(), Some(base64));
        check_payload(base64, &bytes);
    } else {
        assert_eq!(bytes, b"kept");
    }
}

fn check_payload(text: &str, kept_and_bytes: &[u8]) {
    assert!(base64::is_canonical(text));
    let mut expected = b"kept".to_vec();
    base64::decode_append(text, &mut expected).expect("canonical base64 can be read");
    assert_eq!(kept_and_bytes, expected);
    assert_eq!(base64::encode(&expected[4..]), text);
}

/// Both ways of writing a message agree, and what they wrote takes the fast path unless the stream's name is odd.
pub(crate) fn check_writing(connection_id: &str, payload: &[u8]) {
    let encoded = base64::encode(payload);
    let stream =
        StreamData { connection_id: connection_id.to_owned(), data_base64: encoded.clone() };
    let text = data::encode_agent(connection_id, payload);
    assert_eq!(text, v1::encode(&AgentToRelay::TcpData(stream.clone())));
    assert_eq!(text, v1::encode(&RelayToAgent::TcpData(stream)));
    assert_eq!(text, data::wrap_agent(connection_id, &encoded));
    assert_eq!(parsed_agent(&text), Some((connection_id.to_owned(), encoded.clone())));
    let plain = !connection_id.contains(|c: char| c == '"' || c == '\\' || c < ' ');
    assert_eq!(data::scan_agent(&text).is_some(), plain);
    check_reading(&text);

    let client = ClientData { data_base64: encoded.clone() };
    let text = data::encode_client(payload);
    assert_eq!(text, v1::encode(&ClientToRelay::TcpData(client.clone())));
    assert_eq!(text, v1::encode(&RelayToClient::TcpData(client)));
    assert_eq!(text, data::wrap_client(&encoded));
    assert_eq!(data::scan_client(&text), Some(encoded.as_str()));
    check_reading(&text);
}
