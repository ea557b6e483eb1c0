//! JUnit XML, which CI systems read.

use std::fmt::Write as _;

use super::{Summary, list};
use crate::kit::Verdict;
use crate::kit::run::Report;

/// The report: a case that is not as expected is a failure, one that was not run is skipped.
pub(super) fn text(summary: &Summary, reports: &[Report]) -> String {
    let skipped = reports.iter().filter(|report| report.verdict == Verdict::Skipped).count();
    let seconds: f64 = reports.iter().map(|report| report.took.as_secs_f64()).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "<testsuite name=\"conformance of {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" \
         skipped=\"{skipped}\" time=\"{seconds:.3}\">",
        escaped(&summary.profile),
        reports.len(),
        summary.unexpected,
    );
    for report in reports {
        let case = report.case;
        let _ = write!(
            text,
            "  <testcase classname=\"{}\" name=\"{} {}\" time=\"{:.3}\">",
            escaped(list::group_of(case)),
            case.id(),
            escaped(case.title),
            report.took.as_secs_f64(),
        );
        if report.verdict == Verdict::Skipped {
            let _ = write!(text, "<skipped message=\"{}\"/>", escaped(&report.seen));
        } else if !report.is_expected() {
            let message = format!(
                "{} instead of {}: {}",
                report.verdict, report.expectation.verdict, report.seen
            );
            let _ = write!(text, "<failure message=\"{}\"/>", escaped(&message));
        }
        text.push_str("</testcase>\n");
    }
    text + "</testsuite>\n"
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
