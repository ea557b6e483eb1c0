//! One self-contained page.

use serde_json::Value;

/// The page without its data.
const PAGE: &str = include_str!("page.html");

/// The page for a report. It needs nothing but itself.
pub(super) fn page(report: &Value) -> String {
    // Inside of a script element, this alone would end it.
    let data = report.to_string().replace("</", "<\\/").replace("<!--", "<\\u0021--");
    PAGE.replace("\"REPORT\"", &data)
}
