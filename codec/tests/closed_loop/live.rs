//! The same documents, given to this codec and to the message models of the Python implementation.
//!
//! `HNR_ORIGINAL_BIN` names the folder with its programs; without it the tests are skipped by name. What was recorded
//! of those models is checked always, by `tests/wire.rs`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use codec::v1::{self, AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient};
use generator::ir::Shape;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::drawn::{message, near_miss};
use crate::{root, specification};

#[test]
fn agent_to_relay() {
    check::<AgentToRelay>("EdgeAgentToRelayMessage");
}

#[test]
fn relay_to_agent() {
    check::<RelayToAgent>("RelayToEdgeAgentMessage");
}

#[test]
fn client_to_relay() {
    check::<ClientToRelay>("AccessClientToRelayMessage");
}

#[test]
fn relay_to_client() {
    check::<RelayToClient>("RelayToAccessClientMessage");
}

/// Draws messages of a direction, near-misses, and other spellings of both; the models and the codec read and write
/// them alike, but for what clauses say.
fn check<M: Message>(models: &str) {
    let Some(models) = Models::start(models) else {
        // Past the capture of the test runner, so that it is seen when all goes well, too.
        let skipped = format!("SKIPPED {} asked of the original: {VARIABLE} is not set", M::NAME);
        let _ = writeln!(std::io::stderr().lock(), "{skipped}");
        return;
    };
    let models = std::cell::RefCell::new(models);
    let module = specification("spec/v1");
    let union = module.unions.iter().find(|union| union.name == M::NAME);
    let union = union.expect("the direction is specified");
    let documents = prop_oneof![
        message(&module, union),
        near_miss(&module, union).prop_map(|(document, _)| document),
        respelled_integers(message(&module, union).boxed(), &module),
    ];
    let texts =
        (documents, prop::collection::vec((any::<Index>(), 0..3_usize, select(PIECES)), 0..3));
    let mut runner =
        TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    runner
        .run(&texts, |(document, changes)| {
            let mut chars: Vec<char> = document.to_string().chars().collect();
            for (place, length, piece) in changes {
                let start = place.index(chars.len() + 1);
                let end = chars.len().min(start + length);
                chars.splice(start..end, piece.chars());
            }
            let text: String = chars.into_iter().collect();
            let ours = v1::decode::<M>(&text).ok().map(|message| v1::encode(&message));
            let theirs = models.borrow_mut().canonical(&text);
            prop_assert!(
                agree(&text, ours.as_deref(), theirs.as_deref()),
                "{}\nhere  {:?}\nthere {:?}",
                text,
                ours,
                theirs
            );
            Ok(())
        })
        .unwrap();
}

/// Whether both did the same with a text, but for what the clauses have otherwise here.
fn agree(text: &str, ours: Option<&str>, theirs: Option<&str>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (Some(_), None) => false,
        // The relay there checks these two later (box at Q-6).
        (None, Some(theirs)) => {
            let theirs: Value = serde_json::from_str(theirs).expect("it is JSON");
            let texts = ["name", "secret"].map(|key| theirs["inner"].get(key));
            theirs["inner"]["kind"] == "start"
                && texts.into_iter().flatten().any(|value| !value.is_string())
        }
        (Some(ours), Some(theirs)) => {
            if ours == theirs {
                return true;
            }
            let value = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
            let (ours, mut theirs) = (value(ours), value(theirs));
            // Absent and null are kept apart here.
            if value(text)["inner"].get("last_error").is_none() {
                theirs["inner"].as_object_mut().map(|inner| inner.remove("last_error"));
            }
            // An integer beyond 64 bits is read as the nearest one within.
            if let Some(port) = theirs["inner"].get_mut("target_port")
                && port.as_i64().is_none()
            {
                *port = i64::MAX.into();
            }
            // The order may differ: name and secret are fields here, with a place of their own (M-3).
            ours == theirs
        }
    }
}

/// Messages whose integers are spelled in the ways of Q-7, or nearly so.
fn respelled_integers(
    messages: BoxedStrategy<Value>,
    module: &generator::ir::Module,
) -> BoxedStrategy<Value> {
    let fields = module.structs.iter().flat_map(|item| &item.fields);
    let lax: Vec<String> = fields
        .filter(|field| matches!(field.shape, Shape::Integer { lax: true, .. }))
        .map(|field| field.name.clone())
        .collect();
    let spelling = prop_oneof![
        "[ \t\n]?[+-]?[0-9]{0,3}_?[0-9]{0,3}(\\.[0-9]{0,2})?[ _]?".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(|n| json!(f64::from(n) / 2.0)),
        any::<u64>().prop_map(|n| json!(n.to_string())),
        any::<i64>().prop_map(|n| json!(n.to_string())),
    ];
    (messages, spelling)
        .prop_map(move |(mut message, spelling)| {
            let inner = message["inner"].as_object_mut().expect("messages are wrapped");
            for key in &lax {
                if let Some(value) = inner.get_mut(key) {
                    *value = spelling.clone();
                }
            }
            message
        })
        .boxed()
}

/// The models of one direction, in a process of their own.
struct Models {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    union: String,
}

impl Models {
    /// None where the Python implementation is not at hand.
    fn start(union: &str) -> Option<Self> {
        let folder = std::env::var_os(VARIABLE).filter(|value| !value.is_empty())?;
        let program = PathBuf::from(folder).join("network-relay");
        let interpreter = interpreter(&program);
        let mut command = Command::new(&interpreter[0]);
        command.args(&interpreter[1..]).arg(root().join("conformance/peers/models.py"));
        let mut process = command
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{interpreter:?}: {error}"));
        let (questions, answers) = (process.stdin.take(), process.stdout.take());
        let answers = BufReader::new(answers.expect("it was asked for"));
        Some(Self { process, questions, answers, union: union.to_owned() })
    }

    /// What the models write for a text, if they accept it.
    fn canonical(&mut self, text: &str) -> Option<String> {
        let questions = self.questions.as_mut().expect("it is open until the end");
        let question = json!({ "union": self.union, "input": text });
        writeln!(questions, "{question}").expect("the models read on");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the models answer");
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{} answers {line:?}: {error}", self.union));
        answer["canonical"].as_str().map(str::to_owned)
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        // It ends when there are no more questions.
        self.questions = None;
        let _ = self.process.wait();
    }
}

/// What runs a program, from its first line.
fn interpreter(program: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(program)
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let first = text.lines().next().and_then(|line| line.strip_prefix("#!"));
    let first = first.unwrap_or_else(|| panic!("{} is no script", program.display()));
    first.split_whitespace().map(str::to_owned).collect()
}

/// The variable that names the folder with the programs of the Python implementation.
const VARIABLE: &str = "HNR_ORIGINAL_BIN";

/// What is put into texts: white space, escapes, keys that are there already, and what does not belong there.
const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "\u{a0}",
    "\\u0041",
    "\\n",
    "\\/",
    "\\ud800",
    "\"",
    "\\",
    ",",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "0",
    "-",
    "\u{0}",
    "\u{e9}",
    "\u{1f600}",
    "\"kind\":\"start\",",
    "\"kind\":\"tcp_data\",",
    "\"message\":\"\",",
    "\"connection_id\":\"x\",",
    "\"inner\":{},",
    "\"extra\":[1],",
];

/// How many documents are drawn for each direction.
const CASES: u32 = 2000;
