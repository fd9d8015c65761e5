use super::*;
use serde_json::json;

fn row(value: &Value) -> Columns {
    value.as_object().unwrap().clone()
}

fn url(template: &str, columns: &Value) -> Result<String, TemplateError> {
    Template::parse(template).unwrap().render_url(&row(columns))
}

fn one(template: &str, value: &str) -> Result<String, TemplateError> {
    url(template, &json!({ "x": value }))
}

#[test]
fn values_are_literal_and_encoded_wherever_they_stand() {
    for (template, value, want) in [
        ("https://h/a/{{x}}", "b c", "https://h/a/b%20c"),
        ("https://h/a/{{x}}", "b/c?d#e%20", "https://h/a/b%2Fc%3Fd%23e%2520"),
        ("https://h/a?q={{x}}", "a b+c&d=e#f%20?", "https://h/a?q=a%20b%2Bc%26d%3De%23f%2520%3F"),
        ("https://h/a#{{x}}", "ü \"", "https://h/a#%C3%BC%20%22"),
        ("https://h/{{x}}.html", "..", "https://h/...html"),
        ("https://h/{{x}}", "...", "https://h/..."),
        ("https://h/{{x}}", "{{x}}", "https://h/%7B%7Bx%7D%7D"),
        ("https://h/{{x}}", "a\r\nb\0", "https://h/a%0D%0Ab%00"),
        ("https://api.{{x}}.example/a", "e/vil", "https://api.e%2Fvil.example/a"),
        ("https://h/a?q={{x}}", "", "https://h/a?q="),
        ("https://h/a?q={{x}}", "..", "https://h/a?q=.."),
        ("https://h?q={{x}}", "a/b", "https://h?q=a%2Fb"),
    ] {
        assert_eq!(one(template, value).as_deref(), Ok(want), "{template} {value:?}");
    }
}

#[test]
fn a_value_at_the_start_or_where_the_authority_begins_goes_in_as_it_is() {
    for (template, value, want) in [
        ("{{x}}", " http://h/a?b=%20&c#d ", "http://h/a?b=%20&c#d"),
        ("{{x}}/tail", "http://h/a%20", "http://h/a%20/tail"),
        ("https://{{x}}", "\u{a0}h.example/a?b=c\u{feff}", "https://h.example/a?b=c"),
        ("https://{{x}}/a", "h.example:8080", "https://h.example:8080/a"),
        ("{{x}}", "<http://h/>", "http://h/"),
        ("{{x}}", "", ""),
    ] {
        assert_eq!(one(template, value).as_deref(), Ok(want), "{template} {value:?}");
    }
    let both = url("{{s}}://{{h}}/{{p}}", &json!({"s": "https", "h": "h:1", "p": "a:b"}));
    assert_eq!(both.as_deref(), Ok("https://h:1/a%3Ab"));
}

#[test]
fn nothing_climbs_in_a_path_and_nothing_leaves_a_hole() {
    for (template, value) in [
        ("https://h/{{x}}", "."),
        ("https://h/a/{{x}}/b", ".."),
        ("https://h/a/{{x}}?q", ".."),
        ("https://h/.{{x}}", "."),
        ("https://h/%2E{{x}}", "."),
        ("https://h/{{x}}{{x}}", "."),
        ("{{b}}/{{x}}", ".."),
        ("https://h/{{x}}", ""),
        ("https://h/a-{{x}}", ""),
        ("https://a.{{x}}/", ""),
    ] {
        let got = url(template, &json!({"x": value, "b": "http://h"}));
        assert!(matches!(got, Err(TemplateError::Value(_))), "{template} {value:?} {got:?}");
    }
}

#[test]
fn names_are_trimmed_hold_blanks_and_come_each_once() {
    let t = Template::parse("a{{ first name }}b{{名}}c{{first name}}").unwrap();
    assert_eq!(t.names(), ["first name", "名"]);
    assert_eq!(t.render_text(&row(&json!({"first name": "1", "名": "2"}))).as_deref(), Ok("a1b2c1"));
    assert_eq!(t.source(), "a{{ first name }}b{{名}}c{{first name}}");
    let loose = Template::parse("{{q}}").unwrap();
    assert_eq!(loose.render_text(&row(&json!({" q ": "1"}))).as_deref(), Ok("1"));
    assert!(loose.render_text(&row(&json!({" q ": "1", "q  ": "2"}))).is_err());
}

#[test]
fn a_wrong_template_is_told_at_parse() {
    for bad in ["{{", "a{{b", "{{}}", "{{ }}", "{{a{b}}", "{{a}"] {
        assert!(matches!(Template::parse(bad), Err(TemplateError::Syntax(_))), "{bad}");
    }
    for fine in ["", "a}}b", "{a}", "{\"a\":{\"b\":1}}"] {
        assert_eq!(Template::parse(fine).unwrap().render_text(&Columns::new()).as_deref(), Ok(fine));
    }
}

#[test]
fn an_unknown_column_is_named() {
    assert_eq!(url("https://h/{{y}}", &json!({"x": 1})), Err(TemplateError::Unknown("y".into())));
    assert_eq!(TemplateError::Unknown("y".into()).to_string(), "there is no column \"y\"");
}

#[test]
fn json_values_become_their_text_digit_for_digit() {
    let columns: Value =
        serde_json::from_str(r#"{"n":123456789012345678901234567890.10,"t":true,"z":null,"o":{"a":[1]},"s":"x"}"#).unwrap();
    let text = Template::parse("{{n}}|{{t}}|{{z}}|{{o}}|{{s}}").unwrap().render_text(&row(&columns));
    assert_eq!(text.as_deref(), Ok("123456789012345678901234567890.10|true||{\"a\":[1]}|x"));
    assert_eq!(url("http://h/?q={{z}}", &columns).as_deref(), Ok("http://h/?q="));
    assert!(url("http://h/{{z}}", &columns).is_err());
}

#[test]
fn text_never_holds_line_breaks_or_nul() {
    let t = Template::parse("v-{{x}}").unwrap();
    for bad in ["a\rb", "a\nb", "a\0b"] {
        assert!(matches!(t.render_text(&row(&json!({ "x": bad }))), Err(TemplateError::Value(_))));
    }
    assert_eq!(t.render_text(&row(&json!({"x": " %20&"}))).as_deref(), Ok("v- %20&"));
}

#[test]
fn json_bodies_stay_json_whatever_the_value() {
    let t = Template::parse(r#"{"a":"{{x}}","b":"p\"{{x}}","c":[{{n}},{{x}}]}"#).unwrap();
    let columns = json!({"x": "q\"\\\n\u{1}é", "n": 7});
    let body: Value = serde_json::from_str(&t.render_json(&row(&columns)).unwrap()).unwrap();
    assert_eq!(body, json!({"a": "q\"\\\n\u{1}é", "b": "p\"q\"\\\n\u{1}é", "c": [7, "q\"\\\n\u{1}é"]}));
    let whole = Template::parse(r#"{"a":"{{n}}"}"#).unwrap();
    assert_eq!(whole.render_json(&row(&columns)).as_deref(), Ok(r#"{"a":"7"}"#));
    let quoted_name = Template::parse(r#"{"a":"{{say \"n\"}}"}"#).unwrap();
    assert_eq!(quoted_name.render_json(&row(&json!({"say \"n\"": 1}))).as_deref(), Ok(r#"{"a":"1"}"#));
}

proptest::proptest! {
    #[test]
    fn any_value_comes_back_from_path_and_query(value in "\\PC{1,20}|[ -~]{1,20}") {
        proptest::prop_assume!(value != "." && value != "..");
        let made = one("https://h/a/{{x}}/b?q={{x}}&r=1", &value).unwrap();
        let read = url::Url::parse(&made).unwrap();
        proptest::prop_assert_eq!(read.as_str(), made.as_str());
        let segment = read.path_segments().unwrap().nth(1).unwrap().to_owned();
        let plain = |s: &str| url::form_urlencoded::parse(format!("k={s}").as_bytes()).next().unwrap().1.into_owned();
        proptest::prop_assert_eq!(plain(&segment), value.clone());
        proptest::prop_assert_eq!(read.query_pairs().next().unwrap().1.into_owned(), value);
    }
}
