"""Prose out of wikitext: what is read, what is left out, and what cannot be parsed."""

import pytest

pytest.importorskip("mwparserfromhell", reason="mwparserfromhell is not installed: requirements.txt")

from realm_jax.text.wikitext import WikitextError, plain_text  # noqa: E402


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("[[Peru]], [[capital city|capital]] and [[:Category:City]]", "Peru, capital and Category:City"),
        ("a [[File:A.jpg|thumb|The [[Plaza]] in 1900]] b[[Category:X]][[Image:B.png]]", "a b"),
        ("a[[Bild:Old.PNG|thumb|caption]] b", "a b"),  # an old name of the namespace, of no dump's list
        ("a [[Foo: the film|film]] and [[Re: a letter]]", "a film and Re: a letter"),
        ("Text.\n[[de:Lima]]\n[[zh-min-nan:Lima]]", "Text."),
        ("see [http://a.example the report] and [http://b.example]", "see the report and"),
        ("x<ref>{{cite|a=1}}</ref> y<ref name=a /> z<references/>", "x y z"),
        ("{|\n| a || b\n|}\nThen.", "Then."),
        ("a<!-- b --> c<math>x^2</math> d<gallery>\nA.jpg\n</gallery> e", "a c d e"),
        ("5&nbsp;km &lt; 6&#8239;km &mdash; &eacute; &#xD800;", "5 km < 6 km \u2014 \u00e9 \ufffd"),
        ("one<br />two <small>three</small> <nowiki>[[raw]]</nowiki>", "one two three [[raw]]"),
        ("first\nline\n\nsecond", "first line\n\nsecond"),
        (
            "Before:\n* one\n** two\n# three\n: four\n; term : meaning",
            "Before:\n\none\n\ntwo\n\nthree\n\nfour\n\nterm : meaning",
        ),
        ("<div>a</div><blockquote>b</blockquote>c", "a\n\nb\n\nc"),
        ("== H ==\na\n=== I ===\nb", "a\n\nb"),
        ("a\n== See also ==\n* x\n=== y ===\nz\n== More ==\nb\n== References ==\nc", "a\n\nb"),
        ("__NOTOC__\na __TOC__", "a"),
        ("Lima ({{IPA|x}}; {{lang|qu|Limaq}}), once ({{IPA|y}}), lies", "Lima (Limaq), once, lies"),
        ("", ""),
        (".NET runs", ".NET runs"),
    ],
)
def test_what_is_read(wikitext, text):
    assert plain_text(wikitext) == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("'''bold''' and ''italic''", "bold and italic"),
        ("'''''both'''''", "both"),
        ("the dogs' bone isn't mine", "the dogs' bone isn't mine"),
        ("L'''Express'' and ''Le Monde''", "L'Express and Le Monde"),
        ("''''four''''", "'four'"),
        ("'''a''' of ''b'''''c'''", "a of bc"),
    ],
)
def test_quotes_that_are_markup_and_quotes_that_are_not(line, text):
    assert plain_text(line) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{convert|5|km|mi}}", "5 km"),
        ("{{Cvt|5|to|10|km|mi|abbr=on}}", "5 to 10 km"),
        ("{{convert|5|-|10|m}}", "5\u201310 m"),
        ("{{convert|5|ft|10|in|m}} {{convert|5|km|mi|0}}", "5 ft 10 in 5 km"),
        ("{{convert|5|+|3|km}}", "5 + 3 km"),
        ("{{val|6.02|e=23|u=m}}", "6.02\u00d710^23 m"),
        ("{{transliteration|ja|hepburn|Tokyo}} {{script|Latn|abc}}", "Tokyo abc"),
        ("{{ill|Foo|de|Bar|lt=Baz}} {{ill|Foo|de}}", "Baz Foo"),
        ("{{circa|1535}}", "c. 1535"),
        ("{{As of|2010|3|5}}", "As of 5 March 2010"),
        ("{{as of|2010|lc=y}}", "as of 2010"),
        ("{{as of|2010|alt=since then}}", "since then"),
        ("{{formatnum:1234567}}", "1234567"),
        ("{{nowrap|'''[[a]]''' b}}", "a b"),
        ("{{lang-fr|Le ''Monde''}}", "Le Monde"),
        ("{{langx|fr|Monde}}", "Monde"),
        ("{{frac|1|2}} {{frac|3}} {{frac|1|2|3}}", "1/2 1/3 1 2/3"),
        ("{{val|1.5|u=kg}}", "1.5 kg"),
        ("1{{ndash}}2{{snd}}3", "1\u20132 \u2013 3"),
        ("{{quote|A quotation.|Someone}}", "A quotation."),
        ("{{Infobox|name={{nowrap|Lima}}}}{{reflist}}{{unknown|a|b}}", ""),
        ("{{convert}}{{lang}}{{as of}}{{frac}}".replace("{{as of}}{{frac}}", ""), ""),
    ],
)
def test_templates_inside_sentences(template, text):
    assert plain_text(template) == text


def test_a_wiki_calls_its_namespaces_by_its_own_names():
    assert plain_text("a [[Datei:X]] b", hidden={"datei"}) == "a b"
    assert plain_text("a [[Datei:X]] b") == "a Datei:X b"
    assert plain_text("a [[File:X]] b", hidden={"datei"}) == "a b"


@pytest.mark.parametrize("opening", ["{{a|", "[[a|", "{|\n", "<ref>"])
def test_markup_that_would_take_hours_is_refused(opening):
    with pytest.raises(WikitextError, match="300 times"):
        plain_text(opening * 300)
    assert isinstance(plain_text(opening * 5), str)


def test_attributes_whose_quotes_are_never_closed_are_refused():
    """Each would cost the parser another pass over the rest of the page: 4,000 took it 37 seconds."""
    with pytest.raises(WikitextError, match="4000 attributes"):
        plain_text("<a href=\"x '" * 4000)
    assert plain_text('He said "=" <span lang="de">so</span>. ' * 300).startswith('He said "=" so.')
