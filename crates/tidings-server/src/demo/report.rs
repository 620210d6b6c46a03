//! The report: one HTML file that opens anywhere.
//!
//! Owns: how sums look on a page. Does not know: where they come from.
//! Flow: a summary → HTML with its own styles, no scripts.

use super::summary::{Grouping, Summary};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#1b2430;background:#f6f7f9;margin:0}\
main{max-width:56rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.6rem;margin:0 0 .25rem}\
h2{font-size:1.1rem;margin:2.5rem 0 .75rem;text-transform:capitalize}.lead{color:#5a6676;margin:0 0 1.5rem}\
.figures{display:flex;flex-wrap:wrap;gap:1rem}.figures div{background:#fff;border:1px solid #e3e7ec;border-radius:10px;\
padding:.9rem 1.1rem;min-width:9rem}.figures b{display:block;font-size:1.35rem}.figures span{color:#5a6676;font-size:.85rem}\
table{width:100%;border-collapse:collapse;background:#fff;border:1px solid #e3e7ec;border-radius:10px;overflow:hidden}\
td,th{padding:.5rem .9rem;text-align:right;border-top:1px solid #eef1f4;font-variant-numeric:tabular-nums}\
th{font-size:.8rem;color:#5a6676;font-weight:600;border-top:0}td:first-child,th:first-child{text-align:left}\
td.bar{width:35%}td.bar i{display:block;height:.6rem;border-radius:.3rem;background:#2f6fde}\
@media(max-width:40rem){td.bar,th:last-child{display:none}td,th{padding:.5rem .7rem}}";

/// Makes the page.
pub(crate) fn html(source: &str, summary: &Summary) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let (source, measure) = (escape(source), escape(&summary.measure_name()));
    out.push_str(&format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,\
         initial-scale=1\"><title>Report on {source}</title><style>{STYLE}</style><main><h1>Report on {source}</h1>\
         <p class=\"lead\">Made by a tidings job.</p><div class=\"figures\"><div><b>{}</b><span>rows</span></div>\
         <div><b>{}</b><span>{measure}</span></div></div>",
        grouped(summary.rows),
        amount(summary.total),
    ));
    for grouping in summary.groupings() {
        table(&mut out, &grouping, &measure);
    }
    out.push_str("</main></html>\n");
    out
}

fn table(out: &mut String, grouping: &Grouping, measure: &str) {
    let name = escape(&grouping.name);
    out.push_str(&format!("<h2>By {name}</h2><table><tr><th>{name}<th>rows<th>{measure}<th>"));
    let most = grouping.groups.iter().map(|(_, g)| g.sum).fold(0.0, f64::max);
    for (value, group) in &grouping.groups {
        let percent = if most > 0.0 { (100.0 * group.sum / most).clamp(0.0, 100.0) } else { 0.0 };
        out.push_str(&format!(
            "<tr><td>{}<td>{}<td>{}<td class=\"bar\"><i style=\"width:{percent:.1}%\"></i>",
            escape(value),
            grouped(group.rows),
            amount(group.sum),
        ));
    }
    out.push_str("</table>");
}

/// 1234567 → 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn amount(value: f64) -> String {
    let text = format!("{:.2}", value.abs());
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    format!("{}{whole}.{cents}", if value < 0.0 { "-" } else { "" })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_text_is_escaped() {
        assert_eq!(
            (grouped(7), grouped(1_234), grouped(1_234_567)),
            ("7".into(), "1,234".into(), "1,234,567".into())
        );
        assert_eq!((amount(-1234.5), amount(0.0)), ("-1,234.50".into(), "0.00".into()));
        assert_eq!(escape("<b a=\"x\">&"), "&lt;b a=&quot;x&quot;&gt;&amp;");
    }
}
