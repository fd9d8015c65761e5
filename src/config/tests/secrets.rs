use super::{Job, job};
use crate::config::{AuthKind, HeaderValue, ProxyPlan, explain_text};

#[test]
fn secrets_are_in_the_plan_and_in_nothing_that_is_shown() {
    let text = "[request]\nheaders = { X-Key = \"${env:CANARY}\", Authorization = \"Bearer ${env:CANARY}\", Cookie = \"canary-cookie\" }\nproxy = [\"http://u:${env:CANARY}@p:1\", \"socks5://u:canary-plain@q:2\"]\nquery = { token = \"canary-query\" }\n[auth]\nhosts = [\"h\"]\nheader = { A = \"${env:CANARY}\", B = \"canary-literal\", C = \"canary-${env:CANARY}\" }\n";
    let job = job(text).env("CANARY", "canary@secret/1").env("GLEANER_AUTH__HEADER", "{ D = \"canary-env\", A = \"${env:CANARY}\" }");
    let loaded = job.ok();
    let explain = explain_text(&loaded.explain, Some(&job.path()));
    assert!(!explain.contains("canary"), "{explain}");
    assert!(explain.contains("request.headers.X-Key = \"${env:CANARY}\""), "{explain}");
    let mut plan = loaded.plan;
    let shown = format!("{:?}", plan.auth) + &format!("{:?}", plan.request.headers[..2].to_vec()) + &format!("{:?}", plan.request.proxy);
    assert!(!shown.contains("canary"), "{shown}");
    let AuthKind::Header(headers) = plan.auth.take().unwrap().kind else { panic!() };
    assert_eq!(headers.iter().map(|(n, s)| (n.as_str(), s.reveal())).collect::<Vec<_>>(), [("D", "canary-env"), ("A", "canary@secret/1")]);
    assert!(matches!(&plan.request.headers[1].1, HeaderValue::Secret(s) if s.reveal() == "Bearer canary@secret/1"));
    assert_eq!(plan.request.proxy, ProxyPlan::List(vec!["http://u:canary%40secret%2F1@p:1".into(), "socks5://u:canary-plain@q:2".into()]));
}

#[test]
fn messages_never_repeat_a_secret() {
    let text = "[request]\nproxy = \"ftp://u:canary@h\"\nheaders = { a = \"canary\\n\", b = \"${env:BAD}\" }\n[auth]\nhosts = [\"u:canary@h/x\"]\nbearer = \"canary\\r\"\nbasic = { user = \"canary:x\", password = 5 }\n";
    let errors = job(text).env("BAD", "canary\nx").errors();
    assert!(errors.len() >= 6, "{errors:#?}");
    assert!(!errors.concat().contains("canary"), "{errors:#?}");
}

#[test]
fn a_variable_that_is_unset_or_empty_is_an_error_that_names_it() {
    for env in [None, Some("")] {
        let job = job("auth.bearer = \"${env:TOKEN}\"\n");
        let job = env.map_or(Job { env: Vec::new(), ..job }, |_| self::job("auth.bearer = \"${env:TOKEN}\"\n").env("TOKEN", ""));
        assert_eq!(job.errors(), ["x.toml:2:15: auth.bearer: the environment variable TOKEN is not set or empty"]);
    }
    assert_eq!(
        job("auth.bearer = \"${env:TO-KEN}\"").errors(),
        ["x.toml:2:15: auth.bearer: \"TO-KEN\" is no name of an environment variable"]
    );
    assert_eq!(job("auth.bearer = \"${env:T\"").errors(), ["x.toml:2:15: auth.bearer: `${env:` without `}`"]);
}

#[test]
fn secrets_have_their_places() {
    let errors = job("request.query = { k = \"${env:K}\" }\nextract.fields = { a = \"css:${env:K}\" }\nrequest.json = { a = [\"${env:K}\"] }\nrequest.headers = { b = \"${env:K} {{url}}\" }").env("K", "v").errors();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors[..3].iter().all(|e| e.contains("has its place in [auth], in headers and in the proxy only")), "{errors:#?}");
    assert!(errors[3].contains("holds both"), "{errors:#?}");
}

#[test]
fn credentials_are_bound_to_the_one_literal_origin_of_the_job() {
    let hosts = |text: &str| Job::new(&format!("auth.bearer = \"t\"\n{text}\n")).load().map(|l| l.plan.secret_hosts);
    assert_eq!(hosts("request.url = \"https://API.example.com:8443/x\"").unwrap(), ["https://api.example.com:8443"]);
    assert_eq!(hosts("input.file = \"a.csv\"\ninput.url = \"https://api.example.com/{{a}}\"").unwrap(), ["https://api.example.com"]);
    assert_eq!(hosts("input.urls = [\"https://a/1\", \"https://a/2\", \"http://a/\"]").unwrap(), ["http://a", "https://a"]);
    for unclear in [
        "input.file = \"a.csv\"",
        "input.urls = [\"https://a/\", \"https://b/\"]",
        "input.file = \"a.csv\"\ninput.url = \"https://{{host}}/x\"",
        "input.file = \"a.csv\"\ninput.url = \"https://a.{{tld}}/x\"",
        "input.file = \"a.csv\"\ninput.url = \"https://a:{{port}}/x\"",
    ] {
        assert!(hosts(unclear).unwrap_err().to_string().contains("set [auth] hosts = [\"…\"]"), "{unclear}");
    }
    let loaded = Job::new("auth.bearer = \"t\"\nrequest.url = \"https://h/\"").ok();
    let shown: Vec<String> = loaded
        .explain
        .iter()
        .filter(|s| s.key.starts_with("auth.") && s.value != "(not set)")
        .map(|s| format!("{} {}", s.key, s.value))
        .collect();
    assert_eq!(shown, ["auth.hosts [\"https://h\"]", "auth.bearer \"***\""]);
    let set = "input.file = \"a.csv\"\nauth.hosts = [\"A.example\", \"b:8080\", \"http://c:80\", \"[::1]:9\", \"[::1]\"]";
    assert_eq!(hosts(set).unwrap(), ["a.example", "b:8080", "http://c", "[::1]:9", "[::1]"]);
    for bad in ["[]", "[\"*\"]", "[\"*.example.com\"]", "[\"a/b\"]", "[\"u@h\"]", "[\"\"]", "[\"ftp://h\"]"] {
        assert!(hosts(&format!("input.file = \"a.csv\"\nauth.hosts = {bad}")).is_err(), "{bad}");
    }
}

#[test]
fn a_host_alone_is_its_addresses_in_the_job_else_its_https_origin() {
    let hosts = |text: &str| Job::new(&format!("auth.bearer = \"t\"\n{text}\n")).ok().plan.secret_hosts;
    let urls = "input.urls = [\"http://a:8080/x\", \"https://a/y\", \"http://b/\"]\nauth.hosts";
    assert_eq!(hosts(&format!("{urls} = [\"A\"]")), ["http://a:8080", "https://a"]);
    assert_eq!(hosts(&format!("{urls} = [\"b\", \"c\", \"a:9\"]")), ["http://b", "https://c", "a:9"]);
    assert_eq!(hosts("input.file = \"a.csv\"\ninput.url = \"http://a:1/{{x}}\"\nauth.hosts = [\"a\", \"b\"]"), ["http://a:1", "https://b"]);
    assert_eq!(hosts("request.url = \"http://[::1]:9/\"\nauth.hosts = [\"[::1]\"]"), ["http://[::1]:9"]);
}

#[test]
fn a_secret_header_is_for_the_origins_that_the_job_names() {
    let load =
        |text: &str| Job::new(&format!("request.headers = {{ X-Key = \"${{env:K}}\", Accept = \"a\" }}\n{text}\n")).env("K", "v").load();
    let hosts = |text: &str| load(text).unwrap_or_else(|e| panic!("{e}")).plan.secret_hosts;
    assert_eq!(hosts("input.urls = [\"https://a/1\", \"http://b:8080/\", \"https://a/2\"]"), ["http://b:8080", "https://a"]);
    assert_eq!(hosts("request.url = \"https://a/\"\nauth.hosts = [\"https://b\"]"), ["https://b"]);
    assert_eq!(hosts("input.file = \"a.csv\"\ninput.url = \"https://a/{{x}}\""), ["https://a"]);
    assert_eq!(hosts("input.file = \"a.csv\"\nauth.hosts = [\"a\"]"), ["a"]);
    for unclear in ["input.file = \"a.csv\"", "input.file = \"a.csv\"\ninput.url = \"https://{{h}}/\""] {
        let message = load(unclear).unwrap_err().to_string();
        assert!(message.contains("request.headers.X-Key: it is not clear who may see this secret"), "{message}");
    }
    assert!(Job::new("request.headers = { X-Key = \"v\" }\ninput.file = \"a.csv\"").ok().plan.secret_hosts.is_empty());
}

#[test]
fn auth_is_exactly_one_of_its_kinds() {
    for (auth, wanted) in [
        ("auth.hosts = [\"h\"]", "auth: says nothing: set bearer, basic, header or tokens"),
        (
            "auth.bearer = \"a\"\nauth.header = { X = \"b\" }",
            "auth.header: auth.bearer is set too: set exactly one of bearer, basic, header and tokens",
        ),
        ("auth.basic = { user = \"u\" }", "auth.basic: wants both"),
        ("auth.basic = { user = \"u:v\", password = \"p\" }", "auth.basic.user: holds a colon"),
        ("auth.header = { \"X Y\" = \"b\" }", "auth.header.X Y: is no header name"),
        ("auth.bearer = \"\"", "auth.bearer: is empty"),
        ("auth.tokens = [\"a\", \"b\"]\nauth.bearer = \"c\"", "auth.tokens: auth.bearer is set too: set exactly one of"),
        ("auth.tokens = [\"a\"]", "x.toml:2:15: auth.tokens: wants two tokens or more: a single one is bearer = \"${env:…}\""),
        ("auth.tokens = []", "x.toml:2:15: auth.tokens: wants two tokens or more"),
        ("auth.tokens = \"a\"", "x.toml:2:15: auth.tokens: wants two tokens or more"),
        ("auth.tokens = [1, \"b\"]", "x.toml:2:16: auth.tokens: wants text in quotes, not a number"),
        ("auth.tokens = [\n\"a\",\n\"\",\n]", "x.toml:4:1: auth.tokens[1]: is empty"),
        ("auth.tokens = [\n\"a\",\n\"b\\n\",\n]", "x.toml:4:1: auth.tokens[1]: holds a line break"),
        ("auth.tokens = [\n\"${env:NO}\",\n\"b\",\n]", "x.toml:3:1: auth.tokens[0]: the environment variable NO is not set or empty"),
        (
            "auth.tokens = [\n\"a\",\n\"b\",\n\"a\"]",
            "x.toml:5:1: auth.tokens[2]: is the same token as auth.tokens[0]: each has limits of its own",
        ),
    ] {
        let errors = job(auth).errors();
        assert!(errors.len() == 1 && errors[0].contains(wanted), "{auth}: {errors:?}");
    }
}

#[test]
fn several_tokens_are_a_pool_that_shows_none_of_them() {
    let text = "auth.tokens = [\"${env:A}\", \"canary-b\", \"x-${env:A}\"]\n";
    let job = job(text).env("A", "canary-a");
    let loaded = job.ok();
    let explain = explain_text(&loaded.explain, Some(&job.path()));
    assert!(explain.contains("auth.tokens = [\"${env:A}\", \"***\", \"***${env:A}\"]") && !explain.contains("canary"), "{explain}");
    let auth = loaded.plan.auth.unwrap();
    assert!(!format!("{auth:?}").contains("canary"));
    let AuthKind::Tokens(tokens) = auth.kind else { panic!("{auth:?}") };
    assert_eq!(tokens.iter().map(crate::model::Secret::reveal).collect::<Vec<_>>(), ["canary-a", "canary-b", "x-canary-a"]);
    let twice = self::job("auth.tokens = [\"${env:A}\", \"${env:B}\"]").env("A", "canary").env("B", "canary").errors();
    assert_eq!(twice, ["x.toml:2:28: auth.tokens[1]: is the same token as auth.tokens[0]: each has limits of its own"]);
    let higher = self::job("auth.tokens = [\"a\", \"b\"]").flag("auth.bearer", "c", "--set").ok().plan.auth.unwrap();
    assert!(matches!(higher.kind, AuthKind::Bearer(_)));
}
