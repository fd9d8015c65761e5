use super::{Job, job};
use crate::config::{Overrides, load};

#[test]
fn all_errors_come_at_once_in_line_order_with_column_and_nearest_key() {
    let text = "[input]\nfile = \"a.csv\"\non_bad = \"skp\"\n[limits]\n  worker = 8\nper_host = 0\nrate = [\"10/fortnight\"]\n[ouput]\nx = 1\n[retry]\nattempts = \"5\"\nbudget = \"200%\"\n[output]\nmeta = [\"_rows\"]\n";
    assert_eq!(
        Job::new(text).errors(),
        [
            "x.toml:3:10: input.on_bad: \"skp\" is not known; did you mean \"skip\"?",
            "x.toml:5:3: limits.worker: unknown key; did you mean `workers`?",
            "x.toml:6:12: limits.per_host: 0 is not between 1 and 10000",
            "x.toml:7:9: limits.rate: \"10/fortnight\" is no rate: write a number and a window, like \"5000/hour\", \"10/second\", \"100/15m\" or \"1/2s\"",
            "x.toml:8:2: ouput: unknown section; did you mean `output`?",
            "x.toml:11:12: retry.attempts: wants a whole number, not text",
            "x.toml:12:10: retry.budget: \"200%\" is not between 0% and 100%",
            "x.toml:14:8: output.meta: \"_rows\" is no meta column: there are _row, _url, _final_url, _status, _fetched_at, _attempts, _via, _depth; did you mean \"_row\"?",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    for (text, wanted) in [
        ("[input]\nfile = a.csv\n", "x.toml:2:8: not TOML: a value without quotes: write text as \"text\""),
        ("[limits]\nworkers = 1\nworkers = 2\n", "x.toml:3:1: not TOML: the key `workers` stands twice, first in line 2"),
        ("[input]\n[limits]\n[input]\n", "x.toml:3:1: not TOML: the section [input] stands twice, first in line 1"),
        ("[input\n", "x.toml:1:7: not TOML: expected a right bracket, found a newline"),
        ("a = \"b", "x.toml:1:5: not TOML: unterminated string"),
    ] {
        assert_eq!(Job::new(text).errors(), [wanted], "{text}");
    }
}

#[test]
fn places_count_characters_and_begin_at_the_quote() {
    for (text, wanted) in [
        ("limits = { delay = '''x''' }", "x.toml:1:20: limits.delay"),
        ("\u{feff}limits.delay = \"x\"", "x.toml:1:16: limits.delay"),
        ("# é\r\n[limits]\r\ndelay = \"x\"\r\n", "x.toml:3:9: limits.delay"),
        ("input = { file = \"é\", on_bad = 'x' }", "x.toml:1:32: input.on_bad"),
        ("[limits]\ndelay = \"\"\"\nx\"\"\"\n", "x.toml:2:9: limits.delay"),
        ("[limits]\ndelay = \"\"\n", "x.toml:2:9: limits.delay"),
        ("limits.rate = [\n  \"1/s\",\n  \"x\",\n]", "x.toml:3:3: limits.rate"),
    ] {
        let errors = Job::new(text).errors();
        assert!(errors.iter().any(|e| e.starts_with(wanted)), "{text}: {errors:?}");
    }
}

#[test]
fn a_file_that_is_cut_or_torn_anywhere_is_no_panic() {
    let whole = include_str!("job-file.toml");
    for (n, (end, _)) in whole.char_indices().enumerate() {
        if n % 3 == 0 {
            drop(crate::config::tree::parse(&whole[..end]));
            drop(crate::config::tree::parse(&whole[end..]));
        }
        if n % 50 == 0 {
            let torn = whole[..end].to_owned() + "\u{0}\"{[" + &whole[end..];
            drop(Job::new(&whole[..end]).load());
            drop(Job::new(&torn).load());
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let say = |path: &std::path::Path| load(path, &Overrides::default(), []).unwrap_err().to_string();
    let path = folder.path().join("none.toml");
    assert_eq!(say(&path), format!("{}: there is no such job file", path.display()));
    assert_eq!(say(folder.path()), format!("{}: is a folder: name the job file in it", folder.path().display()));
    let path = folder.path().join("latin.toml");
    std::fs::write(&path, b"[job]\nname = \"caf\xe9\"\n").unwrap();
    assert_eq!(say(&path), format!("{}: line 2 is not UTF-8: save the job file as UTF-8", path.display()));
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    assert_eq!(job("request.workers = 5\n").errors(), ["x.toml:2:9: request.workers: unknown key; `workers` belongs into [limits]"]);
    assert_eq!(job("workers = 5\n").errors(), ["x.toml:2:1: workers: unknown section; `workers` belongs into [limits]"]);
    let errors = job("output.xyz = 5\n").errors();
    assert_eq!(errors, ["x.toml:2:8: output.xyz: unknown key; known: `results`, `skipped`, `meta`, `csv_safe`, `flush`"]);
}

#[test]
fn wrong_tables_are_told_and_hide_nothing_else() {
    let text = "limits = 5\nrequest = { timeout = \"5s\", headers = [1] }\n[[retry]]\nattempts = 1\n[input]\nfile = 5\n";
    assert_eq!(
        Job::new(text).errors(),
        [
            "x.toml:1:10: limits: wants a table with some of rate, key, burst, workers, per_host, delay, jitter, adapt, reserve, budget, arrival, hours, max_wait, not a number",
            "x.toml:2:23: request.timeout: wants a table with some of connect, first_byte, idle, total, not text",
            "x.toml:2:39: request.headers: wants a table like { name = \"value\" }, not a list",
            "x.toml:3:1: retry: is a table of its own: write [retry], not [[retry]]",
            "x.toml:6:8: input.file: wants text in quotes, not a number",
        ]
    );
}

#[test]
fn a_variable_and_a_flag_are_named_instead_of_a_line() {
    let job = job("[limits]\nkey = \"hots\"\n").env("GLEANER_LIMITS__WORKER", "8").flag("retry.attempts", "0", "--attempts");
    assert_eq!(
        job.errors(),
        [
            "x.toml:3:7: limits.key: \"hots\" is not known; did you mean \"host\"?",
            "GLEANER_LIMITS__WORKER: limits.worker: unknown key; did you mean `workers`?",
            "--attempts: retry.attempts: 0 is not between 1 and 1000",
        ]
    );
    let flags = super::job("").flag("retry.attempts", "0", "--attempts");
    assert!(flags.load().unwrap_err().only_flags());
}

/// What a section says, and what its error begins with behind the place.
#[test]
fn values_that_make_no_sense_are_errors_that_name_their_key() {
    for (more, wanted) in [
        ("limits.rate = \"10/s\"\nlimits.burst = 10", "limits.burst: 10 at once is no less than the rate 10/second"),
        ("limits.workers = 10001", "limits.workers: 10001 is not between 1 and 10000"),
        ("limits.delay = 5", "limits.delay: \"5\" is no duration: write a number and a unit"),
        ("request.timeout.idle = \"0s\"", "request.timeout.idle: must be longer than 0s"),
        ("request.accept = [\"100..299\"]", "request.accept: \"100\" is no status from 200 to 999"),
        ("request.accept = [\"299..200\"]", "request.accept: \"299..200\" ends before it begins"),
        ("request.accept = []", "request.accept: no status would be a result"),
        ("request.max_body = \"7 apples\"", "request.max_body: \"7 apples\" is no size"),
        ("request.method = \"GE T\"", "request.method: \"GE T\" is no HTTP method"),
        ("request.method = \"connect\"", "request.method: CONNECT opens a tunnel"),
        ("request.headers = { \"a b\" = \"x\" }", "request.headers.a b: is no header name"),
        ("request.headers = { a = \"x\\r\\ny: z\" }", "request.headers.a: holds a line break or a NUL"),
        ("request.headers = { a = \"x\\u0000\" }", "request.headers.a: holds a line break or a NUL"),
        ("request.headers = { A = \"x\", a = \"y\" }", "request.headers.a: the header stands twice"),
        ("request.headers = { Content-Length = \"3\" }", "request.headers.Content-Length: gleaner sets this header itself"),
        ("request.user_agent = \"\"", "request.user_agent: is empty"),
        ("request.body = \"x\"\nrequest.form = { a = \"b\" }", "request.form: a request has one body: request.body is set too"),
        ("request.json = '{\"a\": 1}'", "request.json: wants a table like { key = \"value\" } or a list, not text"),
        ("request.proxy = \"ftp://h\"", "request.proxy: the scheme \"ftp\" is none of"),
        ("request.url = \"https://h.example/\"", "request.url: is the one address of a job without input"),
        ("input.url = \"{{url}}\"\nrequest.url = \"https://h.example/\"", "input.url: set with [request] url"),
        ("input.url = \"ftp://h/{{url}}\"", "input.url: begins with neither"),
        ("input.file = \"a.csv\"", "input.urls: set with [input] file"),
        ("extract.rows = \"json:\"", "extract.rows: json: has nothing behind it"),
        ("extract.rows = \"jsonl:.a\"", "extract.rows: `jsonl:` takes nothing after it"),
        ("extract.fields = { a = \"css:a @\" }", "extract.fields.a: \"@\" names no attribute"),
        ("extract.fields = { a = \"css:.\" }", "extract.fields.a: \".\" is no CSS selector: no name stands behind"),
        ("extract.fields = { a = \"h1\" }", "extract.fields.a: \"h1\" does not begin with its kind"),
        ("extract.fields = { a = \"cs:h1\" }", "extract.fields.a: \"cs\" is no kind of source"),
        ("extract.fields = { _a = \"css:h1\" }", "extract.fields._a: names with `_` in front"),
        (
            "extract.fields = { price = \"css:b\" }\nextract.types = { prize = \"number\" }",
            "extract.types.prize: there is no field \"prize\"; did you mean `price`?",
        ),
        (
            "extract.fields = { a = \"css:b\" }\nextract.types = { a = \"nmber\" }",
            "extract.types.a: \"nmber\" is not known; did you mean \"number\"?",
        ),
        ("extract.required = [\"title\"]", "extract.required: there is no field \"title\""),
        ("retry.backoff = \"2m\"", "retry.backoff: backoff is longer than max_backoff"),
        ("retry.statuses = [99]", "retry.statuses: 99 is not between 100 and 999"),
        ("output.results = \"a.txt\"", "output.results: the name \"a.txt\" tells no format: end it in .csv or .jsonl"),
        ("output.skipped = \"x.results.csv\"", "output.skipped: is the same place as output.results"),
        ("output.skipped = \"sub/../x.results.csv\"", "output.skipped: is the same place as output.results"),
        ("output.meta = [\"_row\", \"_row\"]", "output.meta: \"_row\" stands twice"),
        ("job.name = \"a/b\"", "job.name: is used in file names"),
        ("crawl.follow = []", "crawl.follow: is an empty list"),
        ("crawl.follow = [\"a\"]", "crawl.follow: \"a\" names no attribute"),
        ("crawl.robots = \"no\"", "crawl.robots: \"no\" is not known"),
        ("crawl.robots = \"obey\"\nrequest.robots = \"ignore\"", "request.robots: set with [crawl] robots"),
        ("[pages]", "pages: does not say how the next page is found"),
        ("pages.next = \"page\"", "pages.next: counts pages or rows, so it wants the query name"),
        ("pages.next = \"lnk\"", "pages.next: \"lnk\" is not known"),
        ("pages.next = \"json:\"", "pages.next: json: wants a filter"),
        ("pages.next = \"link\"\npages.param = \"x\"", "pages.param: a Link header gives whole addresses"),
        ("pages.next = \"json:.n\"\npages.param = \"json:.a.b\"", "pages.param: goes into a JSON body"),
        ("pages.next = \"link\"\npages.stop = [\"full\"]", "pages.stop: \"full\" ends nothing"),
        ("pages.next = \"link\"\npages.first = 0", "pages.first: is for next = \"page\""),
        ("pages.next = \"link\"\npages.size = { value = 5 }", "pages.size: wants both"),
        ("stop.errors = \"0%\"", "stop.errors: 0% would end every run"),
    ] {
        let errors = job(more).errors();
        assert_eq!(errors.len(), 1, "{more}: {errors:?}");
        let told = errors[0].splitn(4, ':').last().unwrap_or_default().trim_start();
        assert!(told.starts_with(wanted), "{more}: {}", errors[0]);
        assert!(errors[0].starts_with("x.toml:"), "{}", errors[0]);
    }
}

#[test]
fn a_job_without_input_says_what_to_set() {
    assert_eq!(
        Job::new("").errors(),
        ["x.toml: input: there is no input: set [input] file or urls, or [request] url for a single address"]
    );
    assert_eq!(
        Job::new("request.url = \"example.com\"\n").errors(),
        ["x.toml:1:15: request.url: the address has no scheme: write it whole, like \"https://example.com/\""]
    );
}

#[test]
fn no_output_is_the_input_or_the_job_file() {
    let job = Job::new("input.file = \"list.csv\"\noutput.results = \"./list.csv\"\noutput.skipped = \"-\"\n");
    assert_eq!(job.errors(), ["x.toml:2:18: output.results: is the input file itself"]);
}

#[test]
fn every_wrong_item_of_a_list_is_told_where_it_stands() {
    let errors = job("request.accept = [\"x\",\n 200, 99]\nretry.statuses = [408, 1, 2]").errors();
    let told: Vec<&str> = errors.iter().map(|e| &e[..e.find(" is n").unwrap()]).collect();
    assert_eq!(
        told,
        [
            "x.toml:2:19: request.accept: \"x\"",
            "x.toml:3:7: request.accept: \"99\"",
            "x.toml:4:24: retry.statuses: 1",
            "x.toml:4:27: retry.statuses: 2"
        ]
    );
}

#[test]
fn addresses_in_the_job_are_whole_and_those_of_a_template_are_values() {
    let errors = Job::new("input.urls = [\"foo\", \"ftp://x/\", \"http://\", \"https://h/\"]").errors();
    assert_eq!(
        errors,
        [
            "x.toml:1:15: input.urls: \"foo\": the address has no scheme: write it whole, like \"https://example.com/\"",
            "x.toml:1:22: input.urls: \"ftp://x/\": the scheme \"ftp\" is not http or https",
            "x.toml:1:34: input.urls: \"http://\": the address has no host",
        ]
    );
    Job::new("input.urls = [\"foo\"]\ninput.url = \"https://{{url}}/\"").ok();
    let both = Job::new("input.file = \"a.txt\"\ninput.urls = \"x\"").errors();
    assert!(both.len() == 2 && both[0].contains("no scheme") && both[1].contains("exactly one source"), "{both:?}");
    let wrong = Job::new("input.file = \"a.txt\"\ninput.urls = 5").errors();
    assert!(wrong.iter().any(|e| e.contains("wants text")), "{wrong:?}");
}

#[test]
fn an_unset_variable_does_not_hide_that_nobody_may_see_the_credentials() {
    let errors = Job::new("input.file = \"a.txt\"\nauth.bearer = \"${env:NOT_SET_AT_ALL}\"").errors();
    assert!(errors.iter().any(|e| e.contains("NOT_SET_AT_ALL")) && errors.iter().any(|e| e.contains("who may see")), "{errors:?}");
    let errors = Job::new("input.file = \"a.txt\"\nauth = { bearer = \"x\", hosts = 5 }").errors();
    assert!(errors.len() == 1, "{errors:?}");
}
