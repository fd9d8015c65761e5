//! What the built-in site answers: a function of address and visit, without any I/O.

use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

const CATEGORIES: &[(&str, &str)] =
    &[("kettles", "Kettle"), ("lamps", "Lamp"), ("chairs", "Chair"), ("clocks", "Clock"), ("radios", "Radio"), ("mugs", "Mug")];
const STYLES: &[&str] = &["Plain", "Copper", "Nordic", "Grand", "Little", "Night", "Garden", "Travel", "Studio", "Old Town"];
const CUSTOMERS: &[&str] = &["Ada", "Björn", "Chloé", "Dmitri", "Emre", "Fatima", "Goran", "Hana"];
const CITIES: &[&str] = &["Oslo", "Łódź", "Porto", "Kyōto", "Quito", "Izmir", "Zürich"];
const PRODUCTS: u32 = 120;
const ORDERS: u64 = 300;

/// One answer of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// `Retry-After`, `Location`, `Link`.
    pub(crate) header: Option<(&'static str, String)>,
    pub(crate) body: String,
    /// How long the site takes over it.
    pub(crate) delay: Duration,
}

impl Page {
    fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type, header: None, body: body.into(), delay: Duration::ZERO }
    }

    fn html(title: &str, body: &str) -> Self {
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Demo Shop</title></head>\n\
             <body><nav><a href=\"/\">Shop</a> <a href=\"/about\">About</a></nav>\n<h1>{title}</h1>\n{body}</body></html>\n"
        );
        Self::new(200, "text/html; charset=utf-8", page)
    }

    fn failed(status: u16, what: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{what}\n"))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}

/// The answer to `path` (with its query) at `host`; `visit` counts from 1.
pub(crate) fn answer(host: &str, path: &str, visit: u32) -> Page {
    if host.split(':').next() == Some("api.demo.test") { api(path, visit) } else { shop(path, visit) }
}

fn shop(path: &str, visit: u32) -> Page {
    match path.split('?').next().unwrap_or_default() {
        "/" => home(),
        "/robots.txt" => Page::new(200, "text/plain", "User-agent: *\nDisallow: /private/\n"),
        "/about" => Page::html(
            "About us",
            "<p>Everything here is made up. <a href=\"/private/staff\">Staff only</a>, \
             <a href=\"http://elsewhere.demo.test/\">our friends</a>.</p>\n",
        ),
        "/deals" => Page::new(302, "text/plain", "").with("Location", "/offers/today"),
        "/offers/today" => Page::html("Today's offers", "<p><a href=\"/p/12\">One</a> and <a href=\"/p/45\">another</a>.</p>\n"),
        "/private/staff" => Page::html("Staff", "<p>Nobody who keeps to robots.txt comes here.</p>\n"),
        "/p/old-kettle" => Page::failed(410, "this kettle is gone for good"),
        other => match (other.strip_prefix("/c/"), other.strip_prefix("/p/").and_then(|n| n.parse().ok())) {
            (Some(slug), _) => category(slug),
            (None, Some(n)) if (1..=PRODUCTS).contains(&n) => product(n, visit),
            _ => missing(),
        },
    }
}

fn missing() -> Page {
    Page::failed(404, "there is no such page")
}

fn home() -> Page {
    let mut list = String::from("<ul>\n");
    for (slug, name) in CATEGORIES {
        let _ = writeln!(list, "<li><a href=\"/c/{slug}\">{name}s</a></li>");
    }
    list.push_str("</ul>\n<p><a href=\"/deals\">Deals</a></p>\n");
    Page::html("Demo Shop", &list)
}

fn category(slug: &str) -> Page {
    let Some(i) = CATEGORIES.iter().position(|(s, _)| *s == slug) else { return missing() };
    let mut list = String::from("<ul>\n");
    for n in (1..=PRODUCTS).filter(|n| category_of(*n) == i) {
        let _ = writeln!(list, "<li><a href=\"/p/{n}\">{}</a></li>", name(n));
    }
    match slug {
        "kettles" => list.push_str("<li><a href=\"/p/old-kettle\">Old kettle</a></li>\n"),
        "lamps" => list.push_str("<li><a href=\"/p/999\">Lamp that was never made</a></li>\n"),
        _ => {}
    }
    list.push_str("</ul>\n");
    Page::html(&format!("{}s", CATEGORIES[i].1), &list)
}

fn product(n: u32, visit: u32) -> Page {
    // Faults come at the first visit, so that every run of the demo meets the same ones.
    if visit == 1 && n % 15 == 4 {
        return Page::failed(503, "the shop is busy");
    }
    if visit == 1 && matches!(n, 40 | 95) {
        return Page::failed(429, "slow down, please").with("Retry-After", "1");
    }
    let slug = CATEGORIES[category_of(n)].0;
    let cents = 499 + (n * 7919) % 19_500;
    let other = n % PRODUCTS + 1;
    let mut page = Page::html(
        &name(n),
        &format!(
            "<p>Number <span class=\"sku\">SKU-{n:04}</span> in <a class=\"category\" href=\"/c/{slug}\">{slug}</a></p>\n\
             <p class=\"price\" data-value=\"{}.{:02}\">{}.{:02} &euro;</p>\n<p class=\"stock\" data-value=\"{}\">in stock</p>\n\
             <p>Others took <a href=\"/p/{other}\">{}</a></p>\n",
            cents / 100,
            cents % 100,
            cents / 100,
            cents % 100,
            n * 37 % 60,
            name(other)
        ),
    );
    if n == 77 {
        page.delay = Duration::from_millis(1500);
    }
    page
}

fn category_of(n: u32) -> usize {
    n as usize % CATEGORIES.len()
}

fn name(n: u32) -> String {
    let style = STYLES[(n as usize / CATEGORIES.len()) % STYLES.len()];
    format!("{style} {} {n}", CATEGORIES[category_of(n)].1)
}

fn api(path: &str, visit: u32) -> Page {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path != "/orders" {
        return Page::new(404, "application/json", "{\"error\":\"no such resource\"}\n");
    }
    let number = |name: &str, default: u64, most: u64| {
        let value = query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|v| v.parse().ok()).map_or(default, |v: u64| v.clamp(1, most))
    };
    let (size, page) = (number("per_page", 10, 100), number("page", 1, ORDERS));
    if visit == 1 && page == 7 {
        return Page::new(500, "application/json", "{\"error\":\"oops\"}\n");
    }
    if visit == 1 && page == 18 {
        return Page::new(429, "application/json", "{\"error\":\"rate limit\"}\n").with("Retry-After", "1");
    }
    let pick = |from: &[&'static str], n: u64| from[usize::try_from(n).unwrap_or(0) % from.len()];
    let order = |id: u64| {
        let total = (id * 7331 % 40_000 + 250).to_string();
        let (whole, cents) = total.split_at(total.len() - 2);
        json!({
            "id": 100_000 + id,
            "customer": pick(CUSTOMERS, id * 5 / 3),
            "address": { "city": pick(CITIES, id) },
            "total": format!("{whole}.{cents}"),
            "paid": !id.is_multiple_of(4),
        })
    };
    let first = (page - 1) * size + 1;
    let orders: Vec<_> = (first..first + size).take_while(|id| *id <= ORDERS).map(order).collect();
    let answer = Page::new(200, "application/json", format!("{}\n", json!({ "count": ORDERS, "orders": orders })));
    if first + size > ORDERS {
        return answer;
    }
    answer.with("Link", format!("<http://api.demo.test/orders?per_page={size}&page={}>; rel=\"next\"", page + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn links(body: &str) -> Vec<String> {
        body.split("href=\"").skip(1).filter_map(|r| r.split('"').next()).filter(|l| l.starts_with('/')).map(str::to_owned).collect()
    }

    #[test]
    fn every_page_is_linked_and_each_fault_is_met_once() {
        let (mut known, mut todo) = (BTreeSet::from(["/".to_owned()]), vec!["/".to_owned()]);
        let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
        while let Some(path) = todo.pop() {
            let mut page = answer("shop.demo.test", &path, 1);
            *statuses.entry(page.status).or_default() += 1;
            if matches!(page.status, 429 | 503) {
                page = answer("shop.demo.test", &path, 2);
            }
            let to = page.header.iter().filter(|(n, _)| *n == "Location").map(|(_, v)| v.clone());
            for link in links(&page.body).into_iter().chain(to) {
                if known.insert(link.clone()) {
                    todo.push(link);
                }
            }
        }
        assert_eq!(known.iter().filter(|p| p.starts_with("/p/")).count(), 122);
        assert_eq!(statuses, [(200, 120), (302, 1), (404, 1), (410, 1), (429, 2), (503, 8)].into());
        assert!(known.contains("/private/staff") && answer("shop.demo.test", "/robots.txt", 1).body.contains("Disallow: /private/"));
        assert_eq!(answer("shop.demo.test", "/p/77", 1).delay, Duration::from_millis(1500));
    }

    #[test]
    fn the_api_has_three_hundred_orders_on_thirty_pages() {
        let (mut path, mut ids, mut pages, mut faults) = ("/orders?per_page=10".to_owned(), BTreeSet::new(), 0, Vec::new());
        loop {
            let mut page = answer("api.demo.test", &path, 1);
            if page.status != 200 {
                faults.push(page.status);
                page = answer("api.demo.test", &path, 2);
            }
            pages += 1;
            let read: serde_json::Value = serde_json::from_str(&page.body).unwrap();
            ids.extend(read["orders"].as_array().unwrap().iter().map(|o| o["id"].to_string()));
            let Some((_, link)) = page.header else { break };
            path = link.split_once("demo.test").unwrap().1.split('>').next().unwrap().to_owned();
        }
        assert_eq!((ids.len(), pages, faults), (300, 30, vec![500, 429]));
    }
}
