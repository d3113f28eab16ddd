//! What lists of places share: a page in order of names, or all of it as a file.

use std::hash::Hash;
use std::sync::Arc;

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::fleet::Grant;
use crate::http::app::App;
use crate::http::caller::Caller;
use crate::http::csv::Line;
use crate::http::cursor::Cursors;
use crate::http::download;
use crate::http::file::{Format, format_of};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::workers::{Places, work};
use crate::limits::{EXPORT_PIECE_BYTES, FILTER_TEXT_CHARS_MAX, PLACES_BATCH};

/// One item of a list, as JSON and as a line of CSV.
pub(super) trait Row: Serialize + Send + 'static {
    /// Head of the CSV.
    const COLUMNS: &'static [&'static str];

    /// As many cells as there are columns.
    fn cells(&self, line: &mut Line<'_>);
}

/// What such a list is asked for.
pub(super) struct Asked {
    /// Folded.
    pub(super) text: String,
    descending: bool,
    form: Form,
}

enum Form {
    Page { limit: usize, cursor: Option<String> },
    File(Format),
}

/// Where a page ended.
#[derive(Serialize, Deserialize)]
struct Place {
    name: String,
    id: [u8; 16],
}

/// Folded names, and the things of these names.
pub(super) type Named<I> = Vec<(Arc<str>, I)>;
/// Looks things up. Made once for a page or file, of what all of them share.
pub(super) type Items<I, T> = Box<dyn Fn(&App, &[I]) -> Vec<T> + Send>;
/// Ids of a page, and the cursor of the next one.
type IdPage<I> = (Vec<I>, Option<String>);

/// A list: its name, and how its ids become items and these a page.
pub(super) struct List<I, T, P> {
    pub(super) name: &'static str,
    /// An id from its bytes.
    pub(super) id: fn([u8; 16]) -> I,
    /// The bytes of an id.
    pub(super) bytes: fn(I) -> [u8; 16],
    pub(super) items: fn(&App, Arc<[Grant]>) -> Items<I, T>,
    pub(super) page: fn(Vec<T>, Option<String>) -> P,
}

impl Asked {
    pub(super) fn read(params: &mut Params, headers: &HeaderMap) -> Result<Asked, Problem> {
        let text = params.take("q")?.unwrap_or_default();
        if text.chars().nth(FILTER_TEXT_CHARS_MAX).is_some() {
            let valid = format!("at most {FILTER_TEXT_CHARS_MAX} characters");
            return Err(Problem::bad_parameter("q", "it is too long", &valid));
        }
        let orders = |text: &str| match text {
            "name" => Some(false),
            "-name" => Some(true),
            _ => None,
        };
        let form = match format_of(headers) {
            Some(format) => Form::File(format),
            None => Form::Page { limit: params.page_limit()?, cursor: params.take("cursor")? },
        };
        Ok(Asked {
            text: text.to_lowercase(),
            descending: params.choice("sort", orders, || vec!["name", "-name"])?.unwrap_or(false),
            form,
        })
    }

    /// Refuses what nobody took; `own` are the parameters of this list alone.
    pub(super) fn finish(&self, params: Params, own: &[&str]) -> Result<(), Problem> {
        let paging: &[&str] = match self.form {
            Form::Page { .. } => &["limit", "cursor"],
            Form::File(_) => &[],
        };
        params.finish(&[&["q"], own, &["sort"], paging].concat())
    }

    /// A name folded, when the text is in it.
    pub(super) fn wanted(&self, name: &str) -> Option<Arc<str>> {
        let name = name.to_lowercase();
        name.contains(&self.text).then(|| name.into())
    }
}

impl<I, T, P> List<I, T, P>
where
    I: Copy + Ord + Send + 'static,
    T: Row,
    P: Serialize + Send + 'static,
{
    /// The page or the file of what `find` finds. `filter` is what decides about it besides text and order.
    pub(super) async fn answer(
        self,
        app: &Arc<App>,
        caller: Caller,
        asked: Asked,
        filter: impl Hash,
        find: impl FnOnce(&App, &Caller, &Asked) -> Named<I> + Send + 'static,
    ) -> Result<Response, Problem> {
        if let Form::File(format) = asked.form {
            let begun = download::begin(app, &caller, self.name, format).await?;
            let file = work(app, Places::Api, move |app| {
                let found = find(app, &caller, &asked);
                let ids = self.all(&asked, found);
                File { ids, at: 0, begun: false, format, items: (self.items)(app, caller.grants) }
            });
            let mut file = file.await?;
            return Ok(begun.answer(app, move |app| Ok(file.piece(app))));
        }
        let cursors = Cursors::of(self.name, (&asked.text, asked.descending, filter));
        let page = work(app, Places::Api, move |app| {
            let found = find(app, &caller, &asked);
            let (ids, next) = self.some(&asked, cursors, found)?;
            Ok::<_, Problem>((self.page)((self.items)(app, caller.grants)(app, &ids), next))
        });
        Ok(Json(page.await??).into_response())
    }

    fn all(&self, asked: &Asked, mut found: Named<I>) -> Vec<I> {
        found.sort_unstable_by(|a, b| asked.order((&a.0, a.1), (&b.0, b.1)));
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// The page of these: its entries in order, and the cursor of the next one.
    fn some(&self, asked: &Asked, cursors: Cursors, mut found: Named<I>) -> Result<IdPage<I>, Problem> {
        let Form::Page { limit, cursor } = &asked.form else { return Ok((Vec::new(), None)) };
        let order = |a: (&str, I), b: (&str, I)| asked.order(a, b);
        if let Some(text) = cursor {
            let after: Place = cursors.read(text)?;
            found.retain(|(name, id)| order((name, *id), (&after.name, (self.id)(after.id))).is_gt());
        }
        let more = found.len() > *limit;
        if more {
            found.select_nth_unstable_by(limit - 1, |a, b| order((&a.0, a.1), (&b.0, b.1)));
            found.truncate(*limit);
        }
        found.sort_unstable_by(|a, b| order((&a.0, a.1), (&b.0, b.1)));
        let last = found.last().filter(|_| more);
        let next =
            last.map(|(name, id)| cursors.show(&Place { name: name.to_string(), id: (self.bytes)(*id) }));
        Ok((found.into_iter().map(|(_, id)| id).collect(), next))
    }
}

impl Asked {
    fn order<I: Ord>(&self, a: (&str, I), b: (&str, I)) -> std::cmp::Ordering {
        let by_name = if self.descending { b.0.cmp(a.0) } else { a.0.cmp(b.0) };
        by_name.then_with(|| a.1.cmp(&b.1))
    }
}

/// A file under way: which rows, and their order, is that of one moment.
struct File<I, T> {
    ids: Vec<I>,
    at: usize,
    begun: bool,
    format: Format,
    items: Items<I, T>,
}

impl<I: Copy, T: Row> File<I, T> {
    fn piece(&mut self, app: &App) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let csv = self.format == Format::Csv;
        if !std::mem::replace(&mut self.begun, true) && csv {
            let mut head = Line::begin(&mut out);
            T::COLUMNS.iter().for_each(|column| head.cell(column));
            head.end();
        }
        while self.at < self.ids.len() && out.len() < EXPORT_PIECE_BYTES {
            let end = (self.at + PLACES_BATCH).min(self.ids.len());
            for item in (self.items)(app, &self.ids[self.at..end]) {
                if csv {
                    let mut line = Line::begin(&mut out);
                    item.cells(&mut line);
                    line.end();
                } else {
                    // Made of texts and numbers: it does not fail.
                    let _ = serde_json::to_writer(&mut out, &item);
                    out.push(b'\n');
                }
            }
            self.at = end;
        }
        (!out.is_empty()).then_some(out)
    }
}
