//! JUnit XML, which CI systems read.

use std::fmt::Write as _;

use serde_json::Value;

/// What a test came to, as JUnit knows it.
enum Came {
    Passed,
    Skipped(String),
    Failed(String),
}

struct Test {
    class: String,
    name: String,
    seconds: f64,
    came: Came,
}

/// The report: a case or a cell that is not as expected is a failure, one that was not run is skipped.
pub(super) fn text(report: &Value) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    if let Some(cases) = report["cases"].as_array() {
        let name = format!("conformance of {}", string(&report["summary"]["profile"]));
        suite(&mut text, &name, &cases.iter().map(case).collect::<Vec<_>>());
    }
    if let Some(rows) = report["matrix"]["rows"].as_array() {
        let cells = rows.iter().flat_map(|row| items(&row["cells"]).map(move |it| cell(row, it)));
        suite(&mut text, "interop matrix", &cells.collect::<Vec<_>>());
    }
    text + "</testsuites>\n"
}

fn case(case: &Value) -> Test {
    let (verdict, seen) = (string(&case["verdict"]), string(&case["seen"]));
    let came = if verdict == "skipped" {
        Came::Skipped(seen.to_owned())
    } else if case["is_expected"] == true {
        Came::Passed
    } else {
        let wanted = string(&case["expected_verdict"]);
        Came::Failed(format!("{verdict} instead of {wanted}: {seen}"))
    };
    Test {
        class: string(&case["group"]).to_owned(),
        name: format!("{} {}", string(&case["id"]), string(&case["title"])),
        seconds: case["seconds"].as_f64().unwrap_or_default(),
        came,
    }
}

fn cell(row: &Value, cell: &Value) -> Test {
    let detail = || string(&cell["detail"]).to_owned();
    Test {
        class: format!("matrix {}", string(&row["theme"])),
        name: format!("{} {}", string(&cell["mix"]), string(&row["scenario"])),
        seconds: cell["seconds"].as_f64().unwrap_or_default(),
        came: match string(&cell["verdict"]) {
            "n/a" => Came::Skipped(detail()),
            "failed" => Came::Failed(detail()),
            _ => Came::Passed,
        },
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn suite(text: &mut String, name: &str, tests: &[Test]) {
    let count = |is: fn(&Came) -> bool| tests.iter().filter(|test| is(&test.came)).count();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3}\">",
        escaped(name),
        tests.len(),
        count(|came| matches!(came, Came::Failed(_))),
        count(|came| matches!(came, Came::Skipped(_))),
        tests.iter().map(|test| test.seconds).sum::<f64>(),
    );
    for test in tests {
        let (class, name) = (escaped(&test.class), escaped(&test.name));
        let seconds = test.seconds;
        let _ = write!(
            text,
            "  <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\">"
        );
        let _ = match &test.came {
            Came::Passed => Ok(()),
            Came::Skipped(why) => write!(text, "<skipped message=\"{}\"/>", escaped(why)),
            Came::Failed(why) => write!(text, "<failure message=\"{}\"/>", escaped(why)),
        };
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite>\n");
}

/// A text for an attribute. Characters that XML cannot hold are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\r' | '\t' => escaped.push(' '),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(escaped("a<b>&\"c\"\n\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot; \u{fffd}");
    }
}
