//! `GET /api/v1/docs`: the description of the API as a page for people.
//!
//! Written by the server from the same document that programs read. No script, no foreign host, nothing but elements
//! that a browser and a keyboard know already.

use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::openapi::shared;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:light-dark(#ccd,#445);--soft:light-dark(#f3f4f8,#1c1f28)}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;\
background:light-dark(#fff,#12141a);color:light-dark(#15171c,#e6e8ee)}\
a{color:light-dark(#0550ae,#79b8ff)}\
code{font:.92em ui-monospace,monospace;background:var(--soft);padding:.05em .3em;border-radius:.2em;\
overflow-wrap:anywhere}\
details{border:1px solid var(--line);border-radius:.4em;margin:.4em 0;padding:.2em .8em}\
summary{cursor:pointer;padding:.3em 0}\
summary:focus-visible,a:focus-visible{outline:2px solid light-dark(#0550ae,#79b8ff);outline-offset:2px}\
.method{display:inline-block;min-width:4.2em;font-weight:600}\
table{border-collapse:collapse;width:100%;margin:.5em 0}\
th,td{text-align:left;vertical-align:top;border-bottom:1px solid var(--line);padding:.25em .5em}\
h4{margin:.8em 0 .2em}";

static PAGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(page(shared())));
static POLICY: LazyLock<String> = LazyLock::new(|| policy(STYLE, "'none'"));

/// A policy for a page: nothing is loaded or run, the one style sheet is named by its hash, forms go to `forms`.
pub(super) fn policy(style: &str, forms: &str) -> String {
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
    )
}

#[utoipa::path(get, path = "/api/v1/docs", operation_id = "get-docs", tag = "Description",
    summary = "This description, as a page for people",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn docs() -> Response {
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE.clone()).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Text with `code` and *stress* in it.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 1 {
            let _ = write!(out, "<code>{}</code>", escaped(part));
            continue;
        }
        for (place, part) in part.split('*').enumerate() {
            let part = escaped(part);
            let _ = if place % 2 == 1 { write!(out, "<em>{part}</em>") } else { write!(out, "{part}") };
        }
    }
    out.replace("\n\n", "<br>")
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut out = String::new();
    let title = escaped(text(info, "title"));
    // Writing into a String does not fail; so below.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title} API</title>\
         <style>{STYLE}</style></head><body><header><h1>{title} API {}</h1><p>{}</p>\
         <p><a href=\"openapi.json\">OpenAPI document</a></p></header><main>",
        escaped(text(info, "version")),
        prose(text(info, "description")),
    );
    let mut tags: Vec<&str> = Vec::new();
    let all = || operations(document);
    for (_, _, operation) in all() {
        let tag = tag(operation);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.sort_unstable();
    out.push_str("<nav aria-label=\"Sections\"><ul>");
    for tag in &tags {
        let _ = write!(out, "<li><a href=\"#{0}\">{0}</a></li>", escaped(tag));
    }
    out.push_str("<li><a href=\"#schemas\">Schemas</a></li></ul></nav>");
    for wanted in tags {
        let _ = write!(out, "<section><h2 id=\"{0}\">{0}</h2>", escaped(wanted));
        for (path, method, operation) in all().filter(|(_, _, operation)| tag(operation) == wanted) {
            show_operation(&mut out, document, path, method, operation);
        }
        out.push_str("</section>");
    }
    out.push_str("<section><h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escaped(name);
        let _ = write!(out, "<details id=\"schema-{name}\"><summary><code>{name}</code></summary>");
        let _ = write!(out, "<p>{}</p>", prose(text(schema, "description")));
        show_fields(&mut out, schema);
        out.push_str("</details>");
    }
    out.push_str("</section></main></body></html>");
    out
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn tag(operation: &Value) -> &str {
    operation["tags"][0].as_str().unwrap_or("Other")
}

fn show_operation(out: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        out,
        "<details><summary><span class=\"method\">{}</span> <code>{}</code> {}</summary><p>{}</p>",
        escaped(&method.to_ascii_uppercase()),
        escaped(path),
        prose(text(operation, "summary")),
        prose(text(operation, "description")),
    );
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        out.push_str(
            "<h4>Parameters</h4><table><tr><th>Name</th><th>In</th><th>Type</th><th>Meaning</th></tr>",
        );
        for parameter in parameters {
            let _ = write!(
                out,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(text(parameter, "name")),
                escaped(text(parameter, "in")),
                kind(&parameter["schema"]),
                prose(text(parameter, "description")),
            );
        }
        out.push_str("</table>");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        out.push_str("<h4>Body</h4><ul>");
        show_content(out, content);
        out.push_str("</ul>");
    }
    out.push_str("<h4>Answers</h4><table><tr><th>Status</th><th>Meaning</th></tr>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let shared = answer["$ref"].as_str().and_then(|to| document.pointer(to.strip_prefix('#')?));
        let answer = shared.unwrap_or(answer);
        let _ = write!(out, "<tr><td>{}</td><td>{}<ul>", escaped(status), prose(text(answer, "description")));
        show_content(out, answer["content"].as_object().unwrap_or(&serde_json::Map::new()));
        out.push_str("</ul></td></tr>");
    }
    out.push_str("</table></details>");
}

fn show_content(out: &mut String, content: &serde_json::Map<String, Value>) {
    for (media, described) in content {
        let _ = write!(out, "<li><code>{}</code>: {}</li>", escaped(media), kind(&described["schema"]));
    }
}

/// Fields of an object, or the form of anything else.
fn show_fields(out: &mut String, schema: &Value) {
    let parts: Vec<&Value> = match schema["allOf"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![schema],
    };
    let fields: Vec<_> =
        parts.iter().flat_map(|part| part["properties"].as_object().into_iter().flatten()).collect();
    if fields.is_empty() {
        let _ = write!(out, "<p>{}</p>", kind(schema));
        return;
    }
    out.push_str("<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>");
    for (name, field) in fields {
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            kind(field),
            prose(text(field, "description")),
        );
    }
    out.push_str("</table>");
}

/// A schema in a few words, with a link to what it refers to.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for (word, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " with ")] {
        if let Some(parts) = schema[word].as_array() {
            return parts.iter().map(kind).collect::<Vec<_>>().join(between);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().filter_map(Value::as_str);
        return values.map(|value| format!("<code>{}</code>", escaped(value))).collect::<Vec<_>>().join(", ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        _ => vec!["anything"],
    };
    let mut words = escaped(&types.join(" or "));
    if types.contains(&"array") && !schema["items"].is_null() {
        let _ = write!(words, " of {}", kind(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        let _ = write!(words, " by name, of {}", kind(&schema["additionalProperties"]));
    }
    if let Some(format) = schema["format"].as_str() {
        let _ = write!(words, " ({})", escaped(format));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_loads_nothing() {
        let page = page(shared());
        for (path, _, operation) in operations(shared()) {
            assert!(page.contains(&escaped(path)), "{path}");
            assert!(page.contains(&prose(text(operation, "summary"))), "{path}");
        }
        for loads in ["<script", "<link", "<img", "src=", "http://", "https://", "url(", "@import", " style="]
        {
            assert!(!page.contains(loads), "{loads}");
        }
        // A link into the page leads to its place.
        for (at, _) in page.match_indices("href=\"#") {
            let name = page[at + 7..].split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{name}\"")), "#{name}");
        }
    }

    #[test]
    fn text_is_shown_as_text() {
        assert_eq!(prose("a `<b>` *c* & \"d\""), "a <code>&lt;b&gt;</code> <em>c</em> &amp; &quot;d&quot;");
    }
}
