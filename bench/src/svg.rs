//! Plots as plain SVG: bars with the least and most of the rounds, and lines. Text is kept as text, so that a diff shows a change.

use std::fmt::Write;

/// Of a plot, in pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 20.0;
const TOP: f64 = 46.0;

/// By turn of the series. They differ in lightness too.
const COLOURS: [&str; 4] = ["#1b4f9c", "#4c9be8", "#e08a2e", "#8a8a8a"];

/// A bar: what it is of, the median, and the least and most.
#[derive(Debug, Clone)]
pub struct Bar {
    pub label: String,
    /// Its place among the series: its colour.
    pub series: usize,
    pub value: f64,
    pub least: f64,
    pub most: f64,
}

/// Horizontal bars from zero; a mark at `line` where there is one.
pub fn bars(title: &str, unit: &str, series: &[&str], bars: &[Bar], line: Option<f64>) -> String {
    let most = bars.iter().map(|b| b.most.max(b.value)).chain(line).fold(0.0, f64::max);
    let (scale, height) = (scale(most), TOP + ROW * bars.len() as f64 + 34.0);
    let x = |value: f64| LEFT + value / scale * (WIDTH - LEFT - RIGHT);
    let mut svg = begun(title, height);
    legend(&mut svg, series);
    let bottom = height - 34.0;
    axis(&mut svg, scale, unit, bottom, x);
    for (n, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * n as f64;
        let (middle, end) = (y + ROW / 2.0, x(bar.value));
        let colour = COLOURS[bar.series % COLOURS.len()];
        text(&mut svg, LEFT - 8.0, middle + 4.0, "end", &bar.label);
        put(
            &mut svg,
            format_args!(
                r#"<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
                y + 3.0,
                (end - LEFT).max(0.0),
                ROW - 6.0
            ),
        );
        if bar.most > bar.least {
            rule(&mut svg, (x(bar.least), middle), (x(bar.most), middle), "#222");
        }
        text(&mut svg, x(bar.most.max(bar.value)) + 6.0, middle + 4.0, "start", &shown(bar.value));
    }
    if let Some(value) = line {
        rule(&mut svg, (x(value), TOP - 4.0), (x(value), bottom), "#c02020");
    }
    svg + "</svg>\n"
}

/// A line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines from the origin of both axes.
pub fn lines(title: &str, (x_unit, y_unit): (&str, &str), lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|l| &l.points);
    let (x_scale, y_scale) =
        (scale(all().map(|p| p.0).fold(0.0, f64::max)), scale(all().map(|p| p.1).fold(0.0, f64::max)));
    let (left, height) = (80.0, 340.0);
    let bottom = height - 34.0;
    let x = |value: f64| left + value / x_scale * (WIDTH - left - RIGHT);
    let y = |value: f64| bottom - value / y_scale * (bottom - TOP);
    let mut svg = begun(title, height);
    legend(&mut svg, &lines.iter().map(|l| l.name.as_str()).collect::<Vec<_>>());
    axis(&mut svg, x_scale, x_unit, bottom, x);
    for n in 0..=4 {
        let value = y_scale * f64::from(n) / 4.0;
        text(&mut svg, left - 6.0, y(value) + 4.0, "end", &shown(value));
        rule(&mut svg, (left, y(value)), (WIDTH - RIGHT, y(value)), "#ddd");
    }
    text(&mut svg, WIDTH - RIGHT, TOP - 12.0, "end", y_unit);
    for (n, line) in lines.iter().enumerate() {
        let points: Vec<_> = line.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let colour = COLOURS[n % COLOURS.len()];
        put(
            &mut svg,
            format_args!(r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, points.join(" ")),
        );
    }
    svg + "</svg>\n"
}

fn begun(title: &str, height: f64) -> String {
    let mut svg = String::new();
    put(
        &mut svg,
        format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"#
        ),
    );
    put(&mut svg, format_args!(r##"<rect width="{WIDTH}" height="{height}" fill="#fff"/>"##));
    put(&mut svg, format_args!(r#"<text x="10" y="18" font-size="14" font-weight="bold">{}</text>"#, escaped(title)));
    svg
}

fn legend(svg: &mut String, series: &[&str]) {
    let mut x = 10.0;
    for (n, name) in series.iter().enumerate() {
        put(
            svg,
            format_args!(r#"<rect x="{x}" y="25" width="10" height="10" fill="{}"/>"#, COLOURS[n % COLOURS.len()]),
        );
        text(svg, x + 14.0, 34.0, "start", name);
        x += 34.0 + 7.0 * name.chars().count() as f64;
    }
}

fn axis(svg: &mut String, scale: f64, unit: &str, bottom: f64, x: impl Fn(f64) -> f64) {
    for n in 0..=4 {
        let value = scale * f64::from(n) / 4.0;
        rule(svg, (x(value), TOP - 4.0), (x(value), bottom), "#ddd");
        text(svg, x(value), bottom + 14.0, "middle", &shown(value));
    }
    text(svg, WIDTH - 8.0, bottom + 28.0, "end", unit);
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    put(
        svg,
        format_args!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    put(svg, format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escaped(what)));
}

fn put(svg: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{what}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The next of 1, 2, 5, 10.. above, so that the marks are round.
fn scale(most: f64) -> f64 {
    let power = 10f64.powf(most.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|n| n * power).find(|n| *n >= most).unwrap_or(10.0 * power)
}

fn shown(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.0}k", v / 1000.0),
        v if v >= 100.0 || v == v.trunc() => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64) -> Bar {
        Bar { label: "a < b & c".into(), series: 1, value, least: value / 2.0, most: value * 2.0 }
    }

    #[test]
    fn a_longer_bar_is_of_more_and_names_are_escaped() {
        let svg = bars("t", "u", &["x", "y"], &[bar(1.0), bar(2.0)], Some(3.0));
        let widths: Vec<f64> = svg
            .split("<rect ")
            .filter(|r| r.starts_with("x=\"330\""))
            .map(|r| r.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [88.0, 176.0]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("#c02020"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn scales_are_round_and_hold_everything() {
        assert_eq!([0.0, 0.7, 1.0, 3.0, 47_000.0].map(scale), [1e-9, 1.0, 1.0, 5.0, 50_000.0]);
    }

    #[test]
    fn a_line_rises_to_the_top_of_its_scale() {
        let points = vec![(0.0, 0.0), (10.0, 100.0)];
        let svg = lines("t", ("n", "ms"), &[Line { name: "one".into(), points }]);
        assert!(svg.contains("points=\"80.0,306.0 770.0,46.0\""), "{svg}");
    }
}
