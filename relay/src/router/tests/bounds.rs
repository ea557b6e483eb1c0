//! Nothing that a peer sends makes the relay hold more than its bounds.

use super::*;

fn bounded() -> (Relay, LinkId, LinkId) {
    let mut relay = Relay::with(|settings| {
        settings.max_queue = 10_000;
        settings.budget = 25_500;
    });
    let client = relay.client();
    let agent = relay.agent("a");
    (relay, client, agent)
}

#[test]
fn a_stream_past_its_bound_is_interrupted_both_ways() {
    let (mut relay, client, agent) = bounded();
    relay.flowing(client, 1, "a");
    relay.flowing(client, 2, "a");
    relay.hear_data(client, 2, b"other");
    relay.hear_data(agent, 1, b"the other way");
    for _ in 0..3 {
        relay.hear_data(client, 1, &[b'x'; 4096]);
    }
    assert_eq!(relay.all(client), ["interrupted 1"]);
    let sent = relay.all(agent);
    assert_eq!(sent, ["interrupted 1", "data 2 other"]);
    // Its numbers are over.
    relay.hear_data(client, 1, b"more");
    relay.hear(agent, reset(1));
    assert_eq!((relay.all(client), relay.all(agent)), (vec![], vec![]));
    relay.hear(client, reset(2));
    relay.all(agent);
    relay.check_empty();
}

#[test]
fn past_the_budget_the_largest_queue_goes_first() {
    let (mut relay, client, agent) = bounded();
    for stream in 1..=4 {
        relay.flowing(client, stream, "a");
    }
    for stream in [1, 2, 3] {
        relay.hear_data(client, stream, &[b'x'; 4096]);
        relay.hear_data(client, stream, &[b'x'; 4096]);
    }
    relay.hear_data(client, 2, b"the largest");
    assert!(relay.router.queued_bytes() <= 25_500);
    assert_eq!(relay.all(client), [""; 0]);
    relay.hear_data(client, 4, &[b'y'; 4096]);
    assert!(relay.router.queued_bytes() <= 25_500);
    assert_eq!(relay.all(client), ["interrupted 2"]);
    let sent = relay.all(agent);
    assert!(!sent.contains(&"4096 bytes 2".to_owned()), "{sent:?}");
    assert_eq!(sent.iter().filter(|it| it.starts_with("4096")).count(), 5);
}

#[test]
fn what_waits_for_a_lost_link_s_last_words_counts_too() {
    let (mut relay, client, agent) = bounded();
    for stream in 1..=3 {
        relay.flowing(client, stream, "a");
    }
    for stream in 1..=3 {
        relay.hear_data(agent, stream, &[b'x'; 8000]);
    }
    relay.lose_agent("a");
    relay.agent("b");
    assert!(relay.router.queued_bytes() <= 25_500);
    let far = relay.flowing_beside(client, 4, "b");
    let other = relay.agents["b"];
    relay.hear_data(other, far, &[b'x'; 7000]);
    assert!(relay.router.queued_bytes() <= 25_500);
    let sent = relay.all(client);
    let count = |what: &str| sent.iter().filter(|it| it.starts_with(what)).count();
    assert_eq!((count("8000 bytes"), count("7000 bytes 4")), (2, 1), "{sent:?}");
    assert_eq!(count("interrupted"), 3, "{sent:?}");
}

#[test]
fn small_frames_count_hardly_more_than_their_bytes() {
    let mut relay = Relay::with(|settings| settings.max_queue = (1 << 18) + (1 << 15));
    let client = relay.client();
    let agent = relay.agent("a");
    relay.flowing(client, 1, "a");
    for size in [1, 4095, 4096] {
        for _ in 0..(1 << 18) / size {
            relay.hear_data(client, 1, &vec![b'x'; size]);
        }
        let sent = relay.all(agent);
        assert!(!sent.iter().any(|it| it.starts_with("interrupted")), "frames of {size}");
    }
}

#[test]
fn floods_are_bounded() {
    type Flood = fn(u32) -> Control;
    let floods: [(&str, bool, Flood); 4] = [
        ("finish", false, |_| finish(1, 0)),
        ("finish of the agent", true, |_| finish(1, 0)),
        ("opened", true, |_| opened(1)),
        ("credit", false, |n| credit(1, n.into(), n.into())),
    ];
    for (name, from_agent, flood) in floods {
        let (mut relay, client, agent) = bounded();
        relay.flowing(client, 1, "a");
        let from = if from_agent { agent } else { client };
        for n in 0..10_000 {
            relay.hear(from, flood(n));
            assert!(relay.router.queued_bytes() <= 10_000 + 1000, "{name}");
        }
        let waits = |link: LinkId| {
            let link = &relay.router.links[&link];
            link.control.len() + link.credits.len()
        };
        assert!(waits(client) + waits(agent) < 100, "{name}");
        relay.all(client);
        relay.all(agent);
    }
}

#[test]
fn opens_that_nobody_takes_are_refused_and_the_flooder_is_read_no_more() {
    let (mut relay, client, agent) = bounded();
    let mut stream = 0;
    while relay.router.wants_read(client) {
        stream += 1;
        relay.hear(client, open(stream, "a"));
        relay.hear(client, credit(stream, 0, 9));
        relay.hear(client, reset(stream));
        assert!(stream < 10_000);
    }
    let link = &relay.router.links[&agent];
    assert!(link.control.len() <= MAX_CONTROL_QUEUE && link.lanes.len() <= MAX_CONTROL_QUEUE);
    assert!(relay.router.wants_read(agent), "it has not done anything");
    let refused = relay.all(client);
    assert!(refused.iter().all(|it| it.ends_with("overloaded")), "{:?}", refused.first());
    assert!(relay.router.wants_read(client));
    relay.all(agent);
    relay.check_empty();
}

impl Relay {
    /// As [`Relay::flowing`], although the client takes nothing.
    fn flowing_beside(&mut self, client: LinkId, stream: u32, name: &str) -> u32 {
        let agent = self.agents[name];
        self.hear(client, open(stream, name));
        let far = self.router.links[&agent].last_number;
        self.all(agent);
        self.hear(agent, opened(far));
        far
    }
}
