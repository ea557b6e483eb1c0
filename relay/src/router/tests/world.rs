//! Random streams between random links, against a model: what comes out on a number is the beginning of what went in on
//! the other, in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One step of the world. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Open(usize, usize),
    Opened(usize),
    Data(usize, bool, usize),
    Credit(usize, bool),
    Finish(usize, bool),
    End(usize, bool, u8),
    Send(usize, bool, usize),
    LoseClient(usize),
    LoseAgent(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0_usize..64;
    prop_oneof![
        3 => (at.clone(), at.clone()).prop_map(|(client, agent)| Step::Open(client, agent)),
        4 => at.clone().prop_map(Step::Opened),
        8 => (at.clone(), any::<bool>(), 1_usize..9000)
            .prop_map(|(stream, up, size)| Step::Data(stream, up, size)),
        3 => (at.clone(), any::<bool>()).prop_map(|(stream, up)| Step::Credit(stream, up)),
        2 => (at.clone(), any::<bool>()).prop_map(|(stream, up)| Step::Finish(stream, up)),
        2 => (at.clone(), any::<bool>(), any::<u8>())
            .prop_map(|(stream, up, how)| Step::End(stream, up, how)),
        8 => (at.clone(), any::<bool>(), 1_usize..20)
            .prop_map(|(link, is_client, count)| Step::Send(link, is_client, count)),
        1 => at.clone().prop_map(Step::LoseClient),
        1 => at.prop_map(Step::LoseAgent),
    ]
}

/// What goes in or comes out on one number in one direction: bytes one by one, and messages.
type Script = Vec<String>;

#[derive(Default)]
struct Stream {
    client: Option<(LinkId, u32)>,
    agent: Option<(LinkId, u32)>,
    /// The agent's link at the time of the open.
    asked: Option<LinkId>,
    /// Towards the agent, and towards the client.
    put_in: [Script; 2],
    came_out: [Script; 2],
    credit_in: [u64; 2],
    credit_out: [u64; 2],
    offset: [u64; 2],
    is_opened: bool,
    finished: [bool; 2],
    /// For whom its number is over: 0 the client, 1 the agent.
    ended: [bool; 2],
    /// Who has ended it, or is gone.
    left: [bool; 2],
}

struct World {
    relay: Relay,
    clients: Vec<LinkId>,
    agents: Vec<LinkId>,
    streams: Vec<Stream>,
    numbers: BTreeMap<(LinkId, u32), usize>,
    last: BTreeMap<LinkId, u32>,
    serial: u8,
}

impl World {
    fn new(max_queue: usize, budget: usize) -> Self {
        let mut relay = Relay::with(|settings| {
            settings.max_queue = max_queue;
            settings.budget = budget;
        });
        let clients = (0..3).map(|_| relay.client()).collect();
        let agents = (0..2).map(|n| relay.agent(&format!("a{n}"))).collect();
        Self {
            relay,
            clients,
            agents,
            streams: Vec::new(),
            numbers: BTreeMap::new(),
            last: BTreeMap::new(),
            serial: 0,
        }
    }

    fn run(&mut self, step: Step) {
        let stream_at = |world: &Self, at: usize| match world.streams.len() {
            0 => None,
            count => Some(at % count),
        };
        match step {
            Step::Open(client, agent) => {
                let client = self.clients[client % self.clients.len()];
                let number = self.last.entry(client).or_default();
                *number += 1;
                let key = (client, *number);
                let name = format!("a{}", agent % 2);
                let asked = Some(self.agents[agent % 2]);
                let mut message = open(key.1, &name);
                if let Control::Open(open) = &mut message {
                    open.host = self.streams.len().to_string();
                }
                self.relay.hear(client, message);
                self.numbers.insert(key, self.streams.len());
                let mut stream = Stream { client: Some(key), asked, ..Stream::default() };
                stream.put_in[0].push("open".into());
                self.streams.push(stream);
            }
            Step::Opened(at) => {
                let Some(at) = stream_at(self, at) else { return };
                let stream = &mut self.streams[at];
                let Some((link, number)) = stream.agent else { return };
                if stream.is_opened || stream.ended[1] {
                    return;
                }
                stream.is_opened = true;
                stream.put_in[1].push("opened".into());
                self.relay.hear(link, opened(number));
            }
            Step::Data(at, up, size) => {
                let Some((at, side, (link, number))) = self.may_send(at, up) else { return };
                let stream = &mut self.streams[at];
                self.serial = self.serial.wrapping_add(1);
                stream.put_in[side].extend(vec![self.serial.to_string(); size]);
                stream.offset[side] += size as u64;
                self.relay.hear_data(link, number, &vec![self.serial; size]);
            }
            Step::Finish(at, up) => {
                let Some((at, side, (link, number))) = self.may_send(at, up) else { return };
                let stream = &mut self.streams[at];
                stream.finished[side] = true;
                stream.put_in[side].push("finish".into());
                let offset = stream.offset[side];
                self.relay.hear(link, finish(number, offset));
            }
            Step::Credit(at, up) => {
                let Some(at) = stream_at(self, at) else { return };
                let side = usize::from(!up);
                let stream = &mut self.streams[at];
                let key = if up { stream.client } else { stream.agent };
                let Some((link, number)) = key else { return };
                if stream.ended[side] || (!up && !stream.is_opened) {
                    return;
                }
                stream.credit_in[side] += 1;
                let told = stream.credit_in[side];
                self.relay.hear(link, credit(number, told, told));
            }
            Step::End(at, up, how) => {
                let Some(at) = stream_at(self, at) else { return };
                let side = usize::from(!up);
                let stream = &mut self.streams[at];
                let key = if up { stream.client } else { stream.agent };
                let Some((link, number)) = key else { return };
                if std::mem::replace(&mut stream.ended[side], true) {
                    return;
                }
                let message = match how % 3 {
                    0 => done(number),
                    1 if up => left(number),
                    _ => reset(number),
                };
                stream.left[side] = true;
                stream.put_in[side].push(kind(&message));
                self.relay.hear(link, message);
            }
            Step::Send(at, is_client, count) => {
                let links = if is_client { &self.clients } else { &self.agents };
                let link = links[at % links.len()];
                for _ in 0..count {
                    if !self.send(link) {
                        return;
                    }
                }
            }
            Step::LoseClient(at) => {
                let at = at % self.clients.len();
                self.relay.router.lost(self.clients[at]);
                self.gone(self.clients[at]);
                self.clients[at] = self.relay.client();
            }
            Step::LoseAgent(at) => {
                let at = at % self.agents.len();
                let name = format!("a{at}");
                self.relay.lose_agent(&name);
                self.gone(self.agents[at]);
                self.agents[at] = self.relay.agent(&name);
            }
        }
        assert!(self.relay.router.queued <= self.relay.router.settings.budget);
    }

    /// The stream, direction and number on which data may be sent.
    fn may_send(&self, at: usize, up: bool) -> Option<(usize, usize, (LinkId, u32))> {
        let at = at.checked_rem(self.streams.len())?;
        let stream = &self.streams[at];
        let side = usize::from(!up);
        let key = if up { stream.client? } else { stream.agent? };
        let may = !stream.finished[side] && !stream.ended[side] && (up || stream.is_opened);
        may.then_some((at, side, key))
    }

    /// What went in there comes from nobody any more.
    fn gone(&mut self, link: LinkId) {
        for stream in &mut self.streams {
            for (side, key) in [stream.client, stream.agent].into_iter().enumerate() {
                if key.is_some_and(|(it, _)| it == link) {
                    stream.ended[side] = true;
                    stream.left[side] = true;
                }
            }
            stream.left[1] |= stream.asked == Some(link);
            if stream.client.is_some_and(|(it, _)| it == link) {
                stream.client = None;
            }
            if stream.agent.is_some_and(|(it, _)| it == link) {
                stream.agent = None;
            }
        }
    }

    /// Sends one thing on a link, and checks that its turn has come.
    fn send(&mut self, link: LinkId) -> bool {
        let is_agent = self.agents.contains(&link);
        let Some(transmit) = self.relay.router.poll_transmit(link) else { return false };
        let (number, parts) = match transmit {
            Transmit::Data { stream, payload } => {
                (stream, payload.iter().map(u8::to_string).collect())
            }
            Transmit::Control(Control::Open(open)) => {
                let last = self.last.entry(link).or_default();
                *last += 1;
                assert_eq!(open.stream, *last, "numbers count up without gaps");
                let at: usize = open.host.parse().expect("the index of its stream");
                self.streams[at].agent = Some((link, open.stream));
                self.numbers.insert((link, open.stream), at);
                (open.stream, vec!["open".to_owned()])
            }
            Transmit::Control(mut message) => {
                let number = *number_mut(&mut message).expect("a message of a stream");
                if let Control::Credit(credit) = &message {
                    let at = self.numbers[&(link, number)];
                    let side = usize::from(!is_agent);
                    let stream = &mut self.streams[at];
                    assert!(credit.consumed > stream.credit_out[side], "credit goes up");
                    assert!(credit.consumed <= stream.credit_in[side]);
                    assert!(!stream.came_out[side].is_empty(), "behind what opens the stream");
                    stream.credit_out[side] = credit.consumed;
                    return true;
                }
                (number, vec![kind(&message)])
            }
        };
        let at = self.numbers[&(link, number)];
        let stream = &mut self.streams[at];
        let side = usize::from(!is_agent);
        let out = &mut stream.came_out[side];
        let is_over =
            out.last().is_some_and(|it| ["reset", "done", "interrupted"].contains(&&**it));
        assert!(!is_over, "nothing comes on a number that is over");
        if parts == ["interrupted"]
            && stream.put_in[side].get(out.len()).is_none_or(|it| *it != parts[0])
        {
            // The relay's own.
            stream.ended[usize::from(is_agent)] = true;
            out.push("interrupted".into());
            return true;
        }
        for part in parts {
            assert_eq!(
                stream.put_in[side].get(out.len()),
                Some(&part),
                "in order, and nothing else"
            );
            out.push(part);
        }
        true
    }

    /// Sends everything that there is.
    fn send_all(&mut self) {
        for link in self.clients.clone().into_iter().chain(self.agents.clone()) {
            while self.send(link) {}
        }
    }

    /// Whoever still listens has got everything that the other side has sent.
    fn check_complete(&self) {
        for (at, stream) in self.streams.iter().enumerate() {
            for side in 0..2 {
                let out = &stream.came_out[side];
                if !stream.left[1 - side] && !out.starts_with(&["interrupted".to_owned()]) {
                    let put_in = &stream.put_in[side];
                    assert!(out.starts_with(put_in), "stream {at}: {out:?} of {put_in:?}");
                }
            }
        }
    }
}

fn kind(message: &Control) -> String {
    codec::v2::Message::kind(message).to_owned()
}

proptest! {
    #[test]
    fn streams_keep_their_order_and_nothing_is_left_behind(
        steps in prop::collection::vec(step(), 0..300),
        is_tight in any::<bool>(),
    ) {
        let (max_queue, budget) = if is_tight { (12_000, 30_000) } else { (1 << 30, 1 << 30) };
        let mut world = World::new(max_queue, budget);
        for step in steps {
            world.run(step);
        }
        world.send_all();
        if !is_tight {
            world.check_complete();
        }
        for at in 0..world.streams.len() {
            world.run(Step::End(at, true, 1));
        }
        world.send_all();
        world.relay.check_empty();
    }
}
