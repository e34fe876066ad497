//! A plot of time against size, both on logarithmic axes: one line for each column, with its name at its end.
//!
//! An SVG names a font that the viewer has; a PNG is drawn with the one in this program.

use std::path::{Path, PathBuf};

use dime_harness::number::{Dtype, Op};
use dime_harness::{Fallible, stats};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::plan::{Drive, Mode};
use super::row::{Column, Facts, Row};

/// Size of a panel, which shows one number of GPUs, type, operation and mode.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 720;
/// Room around the axes.
const LEFT: i32 = 80;
const RIGHT: i32 = 220;
const TOP: i32 = 78;
const BOTTOM: i32 = 110;
const FONT: &str = "sans-serif";
/// Colours that stay apart for most colour-blind readers.
const OTHERS: [RGBColor; 8] = [
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(140, 110, 30),
    RGBColor(120, 94, 240),
    RGBColor(0, 90, 80),
    RGBColor(150, 75, 0),
];
const OURS: RGBColor = RGBColor(0, 90, 181);
const NCCLS: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(222, 222, 222);
const TEXT: RGBColor = RGBColor(30, 30, 30);

/// Reads the name of a plot's file, whose end says what it is.
pub fn parse_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match kind(&path) {
        Some(_) => Ok(path),
        None => Err("a plot is a .svg or a .png file".to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Svg,
    Png,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "svg" => Some(Kind::Svg),
        "png" => Some(Kind::Png),
        _ => None,
    }
}

/// Characters of a caption's line.
const CAPTION_WIDTH: usize = 140;

/// The text in lines of the caption: the command can be long.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > CAPTION_WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// One panel.
struct Panel {
    title: String,
    caption: String,
    lines: Vec<Line>,
}

/// One column: points of bytes and us, by size.
struct Line {
    column: Column,
    points: Vec<(f64, f64)>,
}

/// Draws all measurements into a file.
pub fn draw(path: &Path, rows: &[(Row, Facts)]) -> Fallible<()> {
    let panels = panels(rows, &command());
    if panels.is_empty() {
        return Err(format!("{}: there is nothing to draw", path.display()));
    }
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font cannot be read".to_owned())?;
    let bytes = match kind(path) {
        Some(Kind::Png) => png_of(&panels)?,
        _ => svg_of(&panels)?.into_bytes(),
    };
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The command line, as the caption shows it.
fn command() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!("dime {}", arguments.join(" "))
}

/// What the measurements of one panel have in common.
#[derive(PartialEq)]
struct Key<'a> {
    gpus: usize,
    dtype: Dtype,
    op: Op,
    mode: Mode,
    gpu: &'a str,
    drive: Drive,
    in_place: bool,
    is_simulated: bool,
}

impl<'a> Key<'a> {
    fn of((row, facts): &'a (Row, Facts)) -> Self {
        let Row { gpus, dtype, op, mode, .. } = *row;
        let Facts { drive, in_place, is_simulated, .. } = *facts;
        Self { gpus, dtype, op, mode, gpu: &facts.gpu, drive, in_place, is_simulated }
    }
}

fn panels(rows: &[(Row, Facts)], command: &str) -> Vec<Panel> {
    let mut keys: Vec<Key> = Vec::new();
    for row in rows {
        if !keys.contains(&Key::of(row)) {
            keys.push(Key::of(row));
        }
    }
    let panel = |wanted: Key| {
        let here: Vec<&(Row, Facts)> = rows.iter().filter(|row| Key::of(row) == wanted).collect();
        let (first, facts) = here.first()?;
        let simulated = if facts.is_simulated { ", simulated: times mean nothing" } else { "" };
        let place = if facts.in_place { "in place" } else { "out of place" };
        Some(Panel {
            title: format!(
                "All-reduce on {} x {}: {} {}, {}, {place}{simulated}",
                first.gpus,
                facts.gpu,
                first.dtype.name(),
                first.op.name(),
                first.mode.name()
            ),
            caption: format!("{}\n{}\n{command}", runs(&here), first.method),
            lines: lines(&here),
        })
    };
    keys.into_iter().filter_map(panel).collect()
}

/// The runs that the measurements are of, each with its versions and date.
fn runs(rows: &[&(Row, Facts)]) -> String {
    let mut runs: Vec<String> = Vec::new();
    for (_, Facts { dime_version, nccl_version, driver, drive, date, .. }) in rows {
        let versions = format!("Dime {dime_version}, NCCL {nccl_version}, driver {driver}, {}", drive.name());
        // Runs of one day and of equal versions are one to a reader.
        let day = date.split('T').next().unwrap_or(date);
        let run = format!("{versions}; {day}");
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    runs.join(" and ")
}

fn lines(rows: &[&(Row, Facts)]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut sizes: Vec<usize> = rows.iter().map(|(row, _)| row.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for (row, _) in rows {
        if lines.iter().any(|line| line.column == row.column) {
            continue;
        }
        let of = |&bytes: &usize| {
            let us: Vec<f64> = rows
                .iter()
                .filter(|(other, _)| other.column == row.column && other.bytes == bytes)
                .map(|(other, _)| other.us)
                .collect();
            let us = stats::median(&us);
            (us > 0.0).then_some((bytes as f64, us))
        };
        lines.push(Line { column: row.column.clone(), points: sizes.iter().filter_map(of).collect() });
    }
    lines.retain(|line| !line.points.is_empty());
    lines
}

fn svg_of(panels: &[Panel]) -> Fallible<String> {
    let mut text = String::new();
    {
        let size = (WIDTH, HEIGHT * panels.len() as u32);
        draw_all(&SVGBackend::with_string(&mut text, size).into_drawing_area(), panels)?;
    }
    Ok(text)
}

fn png_of(panels: &[Panel]) -> Fallible<Vec<u8>> {
    let (width, height) = (WIDTH, HEIGHT * panels.len() as u32);
    let mut pixels = vec![0; (width * height) as usize * 3];
    draw_all(&BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), panels)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|error| format!("the PNG cannot be written: {error}"))?;
    Ok(bytes)
}

fn draw_all<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panels: &[Panel]) -> Fallible<()> {
    let failed = |error: DrawingAreaErrorKind<B::ErrorType>| format!("the plot cannot be drawn: {error}");
    area.fill(&WHITE).map_err(failed)?;
    for (area, panel) in area.split_evenly((panels.len(), 1)).iter().zip(panels) {
        draw_panel(area, panel).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// One logarithmic axis: from a value to a place between two pixels.
struct Axis {
    least: f64,
    most: f64,
    first: i32,
    last: i32,
}

impl Axis {
    fn place(&self, value: f64) -> i32 {
        let span = (self.most / self.least).ln();
        let part = if span > 0.0 { (value / self.least).ln() / span } else { 0.5 };
        self.first + (part * f64::from(self.last - self.first)).round() as i32
    }

    fn holds(&self, value: f64) -> bool {
        (self.least * 0.999..=self.most * 1.001).contains(&value)
    }
}

/// 1, 2 and 5 times each power of ten.
fn steps_of_ten(axis: &Axis) -> Vec<f64> {
    let decades = -3..=9;
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
    all.filter(|&value| axis.holds(value)).collect()
}

/// Powers of two, so few that their names have room.
fn steps_of_two(axis: &Axis) -> Vec<f64> {
    const MOST: usize = 14;
    let powers: Vec<f64> = (0..40).map(|power| 2_f64.powi(power)).filter(|&value| axis.holds(value)).collect();
    let stride = powers.len().div_ceil(MOST).max(1);
    powers.into_iter().step_by(stride).collect()
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let style =
        |size: u32, colour: &RGBColor, h_pos, v_pos| (FONT, size).into_font().color(colour).pos(Pos::new(h_pos, v_pos));
    let write =
        |text: &str, place: (i32, i32), style: &TextStyle| area.draw(&Text::new(text.to_owned(), place, style.clone()));
    let (width, height) = (WIDTH as i32, HEIGHT as i32);

    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let ends = |number: fn(&(f64, f64)) -> f64| {
        points().map(number).fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)))
    };
    let ((least_bytes, most_bytes), (least_us, most_us)) = (ends(|point| point.0), ends(|point| point.1));
    let x = Axis { least: least_bytes, most: most_bytes, first: LEFT, last: width - RIGHT };
    let y = Axis { least: least_us / 1.3, most: most_us * 1.3, first: height - BOTTOM, last: TOP };

    let left = style(26, &TEXT, HPos::Left, VPos::Top);
    write(&panel.title, (LEFT, 18), &left)?;
    write("us per all-reduce", (LEFT, 52), &style(18, &TEXT, HPos::Left, VPos::Top))?;
    for value in steps_of_ten(&y) {
        let place = y.place(value);
        area.draw(&PathElement::new([(x.first, place), (x.last, place)], GRID))?;
        write(&value.to_string(), (x.first - 8, place), &style(18, &TEXT, HPos::Right, VPos::Center))?;
    }
    for value in steps_of_two(&x) {
        let place = x.place(value);
        area.draw(&PathElement::new([(place, y.first), (place, y.last)], GRID))?;
        let name = stats::show_bytes(value as usize);
        write(&name, (place, y.first + 8), &style(18, &TEXT, HPos::Center, VPos::Top))?;
    }
    write("bytes", (x.last + 36, y.first + 8), &style(18, &TEXT, HPos::Left, VPos::Top))?;

    let mut colours = OTHERS.iter().cycle();
    let mut labels = Vec::new();
    for line in &panel.lines {
        let (colour, stroke, name) = match &line.column {
            Column::Dime => (OURS, 4, "Dime".to_owned()),
            Column::Nccl => (NCCLS, 3, "NCCL".to_owned()),
            other => (*colours.next().unwrap_or(&NCCLS), 2, other.label().to_owned()),
        };
        let places: Vec<(i32, i32)> = line.points.iter().map(|&(bytes, us)| (x.place(bytes), y.place(us))).collect();
        let last = places[places.len() - 1];
        area.draw(&PathElement::new(places.clone(), colour.stroke_width(stroke)))?;
        for place in places {
            area.draw(&Circle::new(place, stroke as i32, colour.filled()))?;
        }
        labels.push((last, colour, name));
    }
    for ((end, colour, name), row) in
        labels.iter().zip(apart(&labels.iter().map(|label| label.0.1).collect::<Vec<_>>()))
    {
        let place = (x.last + 14, row);
        area.draw(&PathElement::new([(end.0 + 6, end.1), (place.0 - 3, row)], colour.mix(0.5)))?;
        write(name, place, &style(19, colour, HPos::Left, VPos::Center))?;
    }
    for (index, text) in panel.caption.lines().flat_map(wrap).enumerate() {
        let place = (LEFT, height - BOTTOM + 34 + 18 * index as i32);
        write(&text, place, &style(15, &TEXT, HPos::Left, VPos::Top))?;
    }
    Ok(())
}

/// The heights of labels, moved so far that none covers another.
fn apart(heights: &[i32]) -> Vec<i32> {
    const ROW: i32 = 20;
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by_key(|&index| heights[index]);
    let mut moved = heights.to_vec();
    let mut floor = i32::MAX;
    // From the bottom up, so that the last one stays above the axis.
    for &index in order.iter().rev() {
        moved[index] = heights[index].min(floor);
        floor = moved[index] - ROW;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::row::samples::{facts, row};
    use super::*;

    fn rows() -> Vec<(Row, Facts)> {
        let columns =
            [Column::Dime, Column::Kernel("two_shot_ll".into()), Column::Nccl, Column::Peer("a <peer>".into())];
        let sizes = [256, 4096, 65536];
        let times = |column: &Column| if *column == Column::Nccl { 9.0 } else { 2.0 };
        columns
            .iter()
            .flat_map(|column| {
                sizes.map(|bytes| (row(column.clone(), bytes, times(column) + bytes as f64 / 1e4), facts()))
            })
            .collect()
    }

    #[test]
    fn every_lane_has_a_line_and_every_number_of_gpus_a_panel() {
        let mut rows = rows();
        rows.push((Row { gpus: 2, ..row(Column::Dime, 256, 2.0) }, facts()));
        rows.push((Row { repeat: 1, ..row(Column::Nccl, 256, 5.0256) }, facts()));
        let panels = panels(&rows, "dime bench");
        assert_eq!(panels.len(), 2);
        assert_eq!(panels[0].title, "All-reduce on 8 x NVIDIA H200: bf16 sum, graph, out of place");
        let columns: Vec<&str> = panels[0].lines.iter().map(|line| line.column.label()).collect();
        assert_eq!(columns, ["dime", "two_shot_ll", "nccl", "a <peer>"]);
        // Repeats give their median.
        assert!((panels[0].lines[2].points[0].1 - 7.0256).abs() < 1e-9);
        assert_eq!(panels[1].lines.len(), 1);
        assert!(panels[0].caption.starts_with("Dime 0.1.0, NCCL 2.28.9, driver 580.159, threads; 2025-06-30\n"));
        assert!(panels[0].caption.ends_with("\na method\ndime bench"));
    }

    #[test]
    fn other_machines_have_panels_of_their_own_and_other_versions_are_named() {
        let mut rows = rows();
        rows.push((row(Column::Dime, 256, 2.0), Facts { gpu: "NVIDIA A100".into(), ..facts() }));
        rows.push((row(Column::Dime, 256, 2.0), Facts { is_simulated: true, ..facts() }));
        rows.push((row(Column::Nccl, 256, 2.0), Facts { nccl_version: "2.32.3".into(), ..facts() }));
        let panels = panels(&rows, "dime plot");
        assert_eq!(panels.len(), 3);
        assert!(
            panels[0].caption.contains("NCCL 2.28.9, driver 580.159, threads; 2025-06-30 and Dime 0.1.0, NCCL 2.32.3")
        );
        assert!(panels[1].title.contains("A100") && panels[2].title.contains("simulated"));
    }

    #[test]
    fn both_kinds_of_file_are_drawn() {
        register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).ok().expect("a font");
        let panels = panels(&rows(), "dime bench --plot x.svg");
        let svg = svg_of(&panels).unwrap();
        for text in
            ["<svg ", "Dime", "NCCL", "two_shot_ll", "a &lt;peer&gt;", "dime bench --plot x.svg", "64K", "us per"]
        {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        let png = png_of(&panels).unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(&png));
        let mut reader = decoder.read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (WIDTH, HEIGHT));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let has = |colour: RGBColor| pixels.chunks_exact(3).any(|pixel| pixel == [colour.0, colour.1, colour.2]);
        assert!(has(OURS) && has(NCCLS) && has(OTHERS[0]) && has(OTHERS[1]), "a line is missing");
    }

    #[test]
    fn one_size_and_one_time_are_a_plot_too() {
        let one = [(row(Column::Dime, 256, 2.0), facts())];
        assert!(svg_of(&panels(&one, "dime bench")).unwrap().contains("<circle"));
    }

    #[test]
    fn a_long_command_takes_several_lines() {
        let command = "dime bench --json".to_owned() + &" --kernels all".repeat(20);
        let lines = wrap(&command);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() <= CAPTION_WIDTH));
        assert_eq!(lines.join(" "), command);
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        assert_eq!(apart(&[100, 300]), [100, 300]);
        assert_eq!(apart(&[300, 295, 100]), [300, 280, 100]);
        assert_eq!(apart(&[300, 300, 300]), [260, 280, 300]);
    }

    #[test]
    fn a_plot_is_svg_or_png_by_its_name() {
        assert!(parse_file("a.svg").is_ok() && parse_file("b/a.PNG").is_ok());
        assert!(parse_file("a.pdf").is_err() && parse_file("svg").is_err());
    }
}
