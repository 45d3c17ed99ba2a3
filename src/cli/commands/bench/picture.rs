//! A picture of the latency over the rate, as SVG: no script, no font, no address of anywhere.

use std::fmt::Write;

/// A point: messages a second, and the latencies there in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// A round number that is no smaller, for the end of an axis.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|end| *end >= value * 0.999).unwrap_or(value)
}

/// The picture of some points, in the order of their rates, with the bound that p99 was to stay within.
pub(super) fn draw(points: &[Point], bound_ms: f64, title: &str) -> String {
    let most_rate = round_up(points.iter().fold(1.0, |most, point| point.rate.max(most)));
    let most_ms =
        round_up(points.iter().fold(bound_ms * 1.2, |most, point| point.p99_ms.min(bound_ms * 3.0).max(most)));
    let x = |rate: f64| LEFT + rate / most_rate * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| HEIGHT - BOTTOM - ms.min(most_ms) / most_ms * (HEIGHT - TOP - BOTTOM);
    let title: String = title.replace('&', "&amp;").replace('<', "&lt;");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    // Writing into a String does not fail.
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let (rate, ms) = (most_rate * part, most_ms * part);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#ddd\"/>", y(ms), WIDTH - RIGHT);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms}</text>", LEFT - 8.0, y(ms) + 4.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{rate}</text>",
            x(rate),
            HEIGHT - BOTTOM + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">messages a second, offered</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 18.0
    );
    let _ = writeln!(
        svg,
        "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">milliseconds until the acknowledgement</text>",
        (TOP + HEIGHT - BOTTOM) / 2.0
    );
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#b00\" stroke-dasharray=\"6 4\"/>\n<text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#b00\">bound {bound_ms} ms</text>",
        y(bound_ms),
        WIDTH - RIGHT,
        y(bound_ms) - 6.0
    );
    for (name, colour, of) in [
        ("p99", "#26374a", (|point: &Point| point.p99_ms) as fn(&Point) -> f64),
        ("p50", "#2b8a3e", |point: &Point| point.p50_ms),
    ] {
        let line: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.rate), y(of(point)))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for point in points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{name} at {:.0}/s: {:.1} ms</title></circle>",
                x(point.rate),
                y(of(point)),
                point.rate,
                of(point)
            );
        }
        if let Some(last) = points.last() {
            let (anchor, aside) = if x(last.rate) > WIDTH - RIGHT - 40.0 { ("end", -8.0) } else { ("start", 8.0) };
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{name}</text>",
                x(last.rate) + aside,
                y(of(last)) + 4.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_points_within_its_frame() {
        let points =
            [Point { rate: 100.0, p50_ms: 1.0, p99_ms: 3.0 }, Point { rate: 1_600.0, p50_ms: 4.0, p99_ms: 9_000.0 }];
        let svg = draw(&points, 50.0, "a < b");
        assert!(svg.contains("a &lt; b") && svg.contains("bound 50 ms"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4);
        for (_, rest) in svg.match_indices("cy=\"").map(|(at, word)| (at, &svg[at + word.len()..])) {
            let y: f64 = rest.split('"').next().unwrap().parse().unwrap();
            assert!((TOP - 1.0..=HEIGHT - BOTTOM + 1.0).contains(&y), "{y}");
        }
        assert_eq!([round_up(1.0), round_up(1_600.0), round_up(51.0)], [1.0, 2_000.0, 100.0]);
    }
}
