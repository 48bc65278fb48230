//! Values as JSON (RFC 8259), by their types.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Number, Value};
use wasmtime::component::Type;

use super::error::ValueError;
use super::{
    DEPTH_MAX, Handles, NoHandles, VALUES_MAX, Val, canonical32, canonical64, handle_number, is_bytes,
    listed, meant, show_type,
};

/// The standard alphabet (RFC 4648, section 4), written with padding and read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes a value as JSON. `value` must be of the type `ty`, as everything is that came from the engine with it; a
/// resource becomes `null`.
pub fn to_json(value: &Val, ty: &Type) -> Value {
    to_json_with(value, ty, &mut NoHandles)
}

/// Writes a value as JSON, with resources as the numbers that `handles` gives them.
pub fn to_json_with(value: &Val, ty: &Type, handles: &mut dyn Handles) -> Value {
    Writer { handles }.value(value, ty)
}

/// Reads a value of the type `ty` from JSON.
///
/// # Errors
/// The first spot that does not fit, as a JSON Pointer.
pub fn from_json(json: &Value, ty: &Type) -> Result<Val, ValueError> {
    from_json_with(json, ty, &mut NoHandles)
}

/// Reads a value of the type `ty` from JSON, with resources as the numbers that `handles` knows.
///
/// # Errors
/// The first spot that does not fit, as a JSON Pointer.
pub fn from_json_with(json: &Value, ty: &Type, handles: &mut dyn Handles) -> Result<Val, ValueError> {
    Reader { handles, depth: 0, left: VALUES_MAX }.value(json, ty)
}

/// Whether a value of this type can be written as `null`, so that an option of it needs another form.
fn can_be_null(ty: &Type) -> bool {
    match ty {
        Type::Option(_) => true,
        Type::Future(future) => future.ty().is_none_or(|ty| can_be_null(&ty)),
        _ => false,
    }
}

struct Writer<'a> {
    handles: &'a mut dyn Handles,
}

impl Writer<'_> {
    fn value(&mut self, value: &Val, ty: &Type) -> Value {
        match (value, ty) {
            (Val::Bool(value), _) => Value::from(*value),
            (Val::S8(value), _) => Value::from(*value),
            (Val::U8(value), _) => Value::from(*value),
            (Val::S16(value), _) => Value::from(*value),
            (Val::U16(value), _) => Value::from(*value),
            (Val::S32(value), _) => Value::from(*value),
            (Val::U32(value), _) => Value::from(*value),
            (Val::S64(value), _) => Value::from(value.to_string()),
            (Val::U64(value), _) => Value::from(value.to_string()),
            (Val::Float32(value), _) => float(shortest(*value)),
            (Val::Float64(value), _) => float(*value),
            (Val::Char(value), _) => Value::from(value.to_string()),
            (Val::String(value), _) => Value::from(value.as_str()),
            (Val::Enum(value), _) => Value::from(value.as_str()),
            (Val::Bytes(bytes), _) => Value::from(BASE64.encode(bytes)),
            (Val::List(items), Type::List(list)) => self.list(items, Some(&list.ty())),
            (Val::List(items), Type::Stream(stream)) => self.list(items, stream.ty().as_ref()),
            (Val::FixedLengthList(items), Type::FixedLengthList(list)) => self.items(items, &list.ty()),
            (Val::Tuple(items), Type::Tuple(tuple)) => {
                items.iter().zip(tuple.types()).map(|(item, ty)| self.value(item, &ty)).collect()
            }
            (Val::Map(entries), Type::Map(map)) => {
                let (key_type, value_type) = (map.key(), map.value());
                entries
                    .iter()
                    .map(|(key, value)| {
                        Value::Array(vec![self.value(key, &key_type), self.value(value, &value_type)])
                    })
                    .collect()
            }
            (Val::Record(fields), Type::Record(record)) => fields
                .iter()
                .zip(record.fields())
                .map(|((name, value), field)| (name.clone(), self.value(value, &field.ty)))
                .collect::<Map<_, _>>()
                .into(),
            (Val::Variant(case, payload), Type::Variant(variant)) => {
                let ty = variant.cases().find(|found| found.name == case).and_then(|case| case.ty);
                match (payload, ty) {
                    (Some(payload), Some(ty)) => object(case, self.value(payload, &ty)),
                    _ => Value::from(case.as_str()),
                }
            }
            (Val::Flags(names), _) => names.iter().map(String::as_str).collect(),
            (Val::Option(None), _) => Value::Null,
            (Val::Option(Some(value)), Type::Option(option)) => {
                let ty = option.ty();
                let written = self.value(value, &ty);
                if can_be_null(&ty) { object("some", written) } else { written }
            }
            (Val::Result(result), Type::Result(ty)) => {
                let (name, payload, ty) = match result {
                    Ok(payload) => ("ok", payload, ty.ok()),
                    Err(payload) => ("err", payload, ty.err()),
                };
                let payload = match (payload, ty) {
                    (Some(payload), Some(ty)) => self.value(payload, &ty),
                    _ => Value::Null,
                };
                object(name, payload)
            }
            (Val::Resource(resource), _) => {
                self.handles.number(*resource).map_or(Value::Null, |number| Value::from(format!("#{number}")))
            }
            // A future that was read out is its value, or nothing where it has no payload.
            (value, Type::Future(future)) => match (value, future.ty()) {
                (Val::Future(_), _) | (_, None) => Value::Null,
                (value, Some(ty)) => self.value(value, &ty),
            },
            // Not read out, or not of this type: what the caller promised does not happen.
            _ => Value::Null,
        }
    }

    fn list(&mut self, items: &[Val], element: Option<&Type>) -> Value {
        match element {
            Some(Type::U8) => {
                let byte = |item: &Val| if let Val::U8(byte) = item { Some(*byte) } else { None };
                Value::from(BASE64.encode(items.iter().filter_map(byte).collect::<Vec<u8>>()))
            }
            Some(element) => self.items(items, element),
            None => items.iter().map(|_| Value::Null).collect(),
        }
    }

    fn items(&mut self, items: &[Val], element: &Type) -> Value {
        items.iter().map(|item| self.value(item, element)).collect()
    }
}

fn object(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// JSON has no such numbers, so they are names (as in the JSON mapping of Protocol Buffers).
fn float(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// The double that is written with the digits of the float: 0.1, not 0.10000000149011612.
fn shortest(number: f32) -> f64 {
    let digits: f64 = number.to_string().parse().unwrap_or(f64::from(number));
    #[expect(clippy::cast_possible_truncation, reason = "this is the check that it does not lose anything")]
    let same = (digits as f32).to_bits() == number.to_bits();
    if same { digits } else { f64::from(number) }
}

struct Reader<'a> {
    handles: &'a mut dyn Handles,
    depth: usize,
    /// Values that may still be read.
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, json: &Value, ty: &Type) -> Result<Val, ValueError> {
        self.take(1)?;
        if self.depth == DEPTH_MAX {
            return Err(ValueError::new(
                format!("a value nested at most {DEPTH_MAX} deep"),
                "one that is deeper",
            ));
        }
        self.depth += 1;
        let value = self.value_at_depth(json, ty);
        self.depth -= 1;
        value
    }

    fn take(&mut self, values: usize) -> Result<(), ValueError> {
        let too_many = || {
            ValueError::new(format!("at most {VALUES_MAX} values"), "more")
                .mend("send less in one call, or give large data as a stream")
        };
        self.left = self.left.checked_sub(values).ok_or_else(too_many)?;
        Ok(())
    }

    fn value_at_depth(&mut self, json: &Value, ty: &Type) -> Result<Val, ValueError> {
        let wrong = || ValueError::new(expected(ty), found(json));
        let text = || json.as_str().ok_or_else(wrong);
        Ok(match ty {
            Type::Bool => Val::Bool(json.as_bool().ok_or_else(wrong)?),
            Type::S8 => Val::S8(integer(json, ty)?),
            Type::U8 => Val::U8(integer(json, ty)?),
            Type::S16 => Val::S16(integer(json, ty)?),
            Type::U16 => Val::U16(integer(json, ty)?),
            Type::S32 => Val::S32(integer(json, ty)?),
            Type::U32 => Val::U32(integer(json, ty)?),
            Type::S64 => Val::S64(wide(json, ty)?),
            Type::U64 => Val::U64(wide(json, ty)?),
            Type::Float32 => {
                let number = read_float(json).ok_or_else(wrong)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "rounded, as every decimal text of a float is"
                )]
                let rounded = number as f32;
                if rounded.is_infinite() && number.is_finite() {
                    return Err(wrong().mend("the number is too large for 32 bits"));
                }
                Val::Float32(canonical32(rounded))
            }
            Type::Float64 => Val::Float64(canonical64(read_float(json).ok_or_else(wrong)?)),
            Type::Char => {
                let mut characters = text()?.chars();
                match (characters.next(), characters.next()) {
                    (Some(one), None) => Val::Char(one),
                    _ => return Err(wrong()),
                }
            }
            Type::String => Val::String(text()?.to_owned()),
            Type::Enum(ty) => {
                let name = text()?;
                if !ty.names().any(|known| known == name) {
                    return Err(unknown(name, "one of", || ty.names()));
                }
                Val::Enum(name.to_owned())
            }
            Type::List(list) => self.list(json, ty, Some(&list.ty()))?,
            Type::Stream(stream) => self.list(json, ty, stream.ty().as_ref())?,
            Type::Future(future) => match future.ty() {
                Some(ty) => return self.value_at_depth(json, &ty),
                None if json.is_null() => Val::Tuple(Vec::new()),
                None => return Err(wrong()),
            },
            Type::FixedLengthList(list) => {
                let items = json.as_array().ok_or_else(wrong)?;
                let length = list.len() as usize;
                if items.len() != length {
                    return Err(ValueError::new(
                        format!("an array of {length} elements"),
                        format!("{} elements", items.len()),
                    ));
                }
                Val::FixedLengthList(self.items(items, &list.ty())?)
            }
            Type::Tuple(tuple) => {
                let items = json.as_array().ok_or_else(wrong)?;
                let types = tuple.types();
                if items.len() != types.len() {
                    return Err(ValueError::new(
                        format!("an array of {} elements: {}", types.len(), show_type(ty)),
                        format!("{} elements", items.len()),
                    ));
                }
                let mut values = Vec::with_capacity(items.len());
                for (index, (item, ty)) in items.iter().zip(types).enumerate() {
                    values.push(self.value(item, &ty).map_err(|error| error.within(&index.to_string()))?);
                }
                Val::Tuple(values)
            }
            Type::Map(map) => {
                let (key_type, value_type) = (map.key(), map.value());
                let mut entries = Vec::new();
                for (index, entry) in json.as_array().ok_or_else(wrong)?.iter().enumerate() {
                    let within = |error: ValueError| error.within(&index.to_string());
                    let [key, value] = entry.as_array().map_or(&[][..], Vec::as_slice) else {
                        return Err(within(ValueError::new("a pair `[key, value]`", found(entry))));
                    };
                    let key = self.value(key, &key_type).map_err(|error| within(error.within("0")))?;
                    let value = self.value(value, &value_type).map_err(|error| within(error.within("1")))?;
                    entries.push((key, value));
                }
                Val::Map(entries)
            }
            Type::Record(record) => {
                let members = json.as_object().ok_or_else(wrong)?;
                let names = || record.fields().map(|field| field.name);
                if let Some(name) = members.keys().find(|name| !names().any(|known| known == *name)) {
                    return Err(unknown(name, "only the fields", names).within(name));
                }
                let mut fields = Vec::with_capacity(members.len());
                for field in record.fields() {
                    let value = match (members.get(field.name), &field.ty) {
                        (Some(member), ty) => {
                            self.value(member, ty).map_err(|error| error.within(field.name))?
                        }
                        // What may be null may be left out.
                        (None, Type::Option(_)) => Val::Option(None),
                        (None, ty) => {
                            return Err(ValueError::new(
                                format!("the field `{}` of type {}", field.name, show_type(ty)),
                                "none",
                            ));
                        }
                    };
                    fields.push((field.name.to_owned(), value));
                }
                Val::Record(fields)
            }
            Type::Variant(variant) => {
                let names = || variant.cases().map(|case| case.name);
                let (name, payload) = match json {
                    Value::String(name) => (name, None),
                    Value::Object(members) if members.len() == 1 => members
                        .iter()
                        .next()
                        .map(|(name, payload)| (name, Some(payload)))
                        .ok_or_else(wrong)?,
                    _ => return Err(wrong()),
                };
                let case = variant.cases().find(|case| case.name == name);
                let case = case.ok_or_else(|| unknown(name, "one of the cases", names))?;
                let payload = match (payload, case.ty) {
                    (None, None) => None,
                    (Some(payload), Some(ty)) => {
                        Some(Box::new(self.value(payload, &ty).map_err(|error| error.within(name))?))
                    }
                    (None, Some(ty)) => {
                        return Err(ValueError::new(
                            format!("the case `{name}` with its value of type {}", show_type(&ty)),
                            "no value",
                        )
                        .mend(format!("{{\"{name}\": …}}")));
                    }
                    (Some(_), None) => {
                        return Err(ValueError::new(
                            format!("the case `{name}`, which has no value"),
                            "a value",
                        )
                        .mend(format!("\"{name}\"")));
                    }
                };
                Val::Variant(name.clone(), payload)
            }
            Type::Flags(flags) => {
                let mut set = Vec::new();
                for (index, item) in json.as_array().ok_or_else(wrong)?.iter().enumerate() {
                    let within = |error: ValueError| error.within(&index.to_string());
                    let name = item
                        .as_str()
                        .ok_or_else(|| within(ValueError::new("a name of a flag", found(item))))?;
                    if !flags.names().any(|known| known == name) {
                        return Err(within(unknown(name, "one of the flags", || flags.names())));
                    }
                    set.push(name);
                }
                // In the order of the type, each once: a set.
                Val::Flags(flags.names().filter(|name| set.contains(name)).map(str::to_owned).collect())
            }
            Type::Option(option) => {
                let ty = option.ty();
                match json {
                    Value::Null => Val::Option(None),
                    json if can_be_null(&ty) => {
                        let some = json.as_object().filter(|members| members.len() == 1);
                        let some = some.and_then(|members| members.get("some")).ok_or_else(|| {
                            wrong().mend(
                                "an option within an option is `null`, or `{\"some\": …}` around the inner one",
                            )
                        })?;
                        let value = self.value(some, &ty).map_err(|error| error.within("some"))?;
                        Val::Option(Some(Box::new(value)))
                    }
                    json => Val::Option(Some(Box::new(self.value(json, &ty)?))),
                }
            }
            Type::Result(result) => {
                let member = json.as_object().filter(|members| members.len() == 1);
                let (name, payload) = member.and_then(|members| members.iter().next()).ok_or_else(wrong)?;
                let mut payload_of = |ty: Option<Type>| match ty {
                    Some(ty) => self.value(payload, &ty).map(|value| Some(Box::new(value))),
                    None if payload.is_null() => Ok(None),
                    None => Err(ValueError::new("null, for this side has no value", found(payload))),
                };
                match name.as_str() {
                    "ok" => Val::Result(Ok(payload_of(result.ok()).map_err(|error| error.within("ok"))?)),
                    "err" => Val::Result(Err(payload_of(result.err()).map_err(|error| error.within("err"))?)),
                    _ => return Err(wrong()),
                }
            }
            Type::Own(resource) | Type::Borrow(resource) => {
                let number = handle_number(text()?).ok_or_else(wrong)?;
                let found = self.handles.resource(number, resource);
                Val::Resource(found.map_err(|why| ValueError::new("a resource of this session", why))?)
            }
            Type::ErrorContext => return Err(ValueError::new("a type JSON can carry", "an error context")),
        })
    }

    fn list(&mut self, json: &Value, ty: &Type, element: Option<&Type>) -> Result<Val, ValueError> {
        if is_bytes(element) {
            let wrong = || ValueError::new(expected(ty), found(json));
            let text = json.as_str().ok_or_else(|| wrong().mend("bytes are one string, in base64"))?;
            let bytes = BASE64.decode(text).map_err(|error| {
                ValueError::new("text in base64 (RFC 4648, section 4)", format!("text that is not: {error}"))
            })?;
            return Ok(Val::from(bytes));
        }
        let items = json.as_array().ok_or_else(|| ValueError::new(expected(ty), found(json)))?;
        match element {
            Some(element) => self.items(items, element).map(Val::List),
            None => {
                self.take(items.len())?;
                Ok(Val::List(items.iter().map(|_| Val::Tuple(Vec::new())).collect()))
            }
        }
    }

    fn items(&mut self, items: &[Value], element: &Type) -> Result<Vec<Val>, ValueError> {
        // Not reserved for what is announced but not there: each element is counted as it is read.
        let mut values = Vec::new();
        for (index, item) in items.iter().enumerate() {
            values.push(self.value(item, element).map_err(|error| error.within(&index.to_string()))?);
        }
        Ok(values)
    }
}

fn integer<T: TryFrom<i64>>(json: &Value, ty: &Type) -> Result<T, ValueError> {
    json.as_i64()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| ValueError::new(expected(ty), found(json)))
}

/// A 64-bit integer: decimal text, or a number, which most readers of JSON keep only to 53 bits.
fn wide<T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>>(
    json: &Value,
    ty: &Type,
) -> Result<T, ValueError> {
    let plain =
        |text: &&str| text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    match json {
        Value::String(text) => Some(text.as_str()).filter(plain).and_then(|text| text.parse().ok()),
        Value::Number(number) => number
            .as_i64()
            .and_then(|number| T::try_from(number).ok())
            .or_else(|| number.as_u64().and_then(|number| T::try_from(number).ok())),
        _ => None,
    }
    .ok_or_else(|| ValueError::new(expected(ty), found(json)))
}

fn read_float(json: &Value) -> Option<f64> {
    match json {
        Value::Number(number) => number.as_f64(),
        Value::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn unknown<'a, N: Iterator<Item = &'a str>>(given: &str, of: &str, names: impl Fn() -> N) -> ValueError {
    let error = ValueError::new(format!("{of} {}", listed(names())), format!("`{}`", clip(given)));
    match meant(given, names()) {
        Some(name) => error.mend(format!("did you mean `{name}`?")),
        None => error,
    }
}

/// What JSON should stand for a type.
fn expected(ty: &Type) -> String {
    match ty {
        Type::Bool => "true or false".into(),
        Type::S8 => "an integer from -128 to 127".into(),
        Type::U8 => "an integer from 0 to 255".into(),
        Type::S16 => "an integer from -32768 to 32767".into(),
        Type::U16 => "an integer from 0 to 65535".into(),
        Type::S32 => "an integer from -2147483648 to 2147483647".into(),
        Type::U32 => "an integer from 0 to 4294967295".into(),
        Type::S64 => "a signed 64-bit integer, as a decimal string or a number".into(),
        Type::U64 => "an unsigned 64-bit integer, as a decimal string or a number".into(),
        Type::Float32 | Type::Float64 => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"".into(),
        Type::Char => "a string of one character".into(),
        Type::String => "a string".into(),
        Type::Enum(_) => "a string, the name of a case".into(),
        Type::List(list) if matches!(list.ty(), Type::U8) => "bytes as a string in base64".into(),
        Type::Stream(stream) if is_bytes(stream.ty().as_ref()) => "bytes as a string in base64".into(),
        Type::List(_) | Type::Stream(_) | Type::FixedLengthList(_) | Type::Tuple(_) => {
            format!("an array: {}", show_type(ty))
        }
        Type::Map(_) => format!("an array of pairs: {}", show_type(ty)),
        Type::Record(_) => format!("an object: {}", show_type(ty)),
        Type::Variant(_) => "\"case\", or {\"case\": value}".into(),
        Type::Flags(_) => "an array of names of flags".into(),
        Type::Option(option) if can_be_null(&option.ty()) => "null or {\"some\": value}".into(),
        Type::Option(option) => format!("null, or {}", expected(&option.ty())),
        Type::Result(_) => "{\"ok\": value} or {\"err\": value}".into(),
        Type::Own(_) | Type::Borrow(_) => "a resource of this session, such as \"#1\"".into(),
        Type::Future(future) => future.ty().map_or_else(|| "null".into(), |ty| expected(&ty)),
        Type::ErrorContext => "an error context".into(),
    }
}

/// What stands there, in few words.
fn found(json: &Value) -> String {
    match json {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => clip(&number.to_string()),
        Value::String(text) => format!("the string \"{}\"", clip(text).escape_debug()),
        Value::Array(items) if items.len() == 1 => "an array of one element".into(),
        Value::Array(items) => format!("an array of {} elements", items.len()),
        Value::Object(members) if members.is_empty() => "an empty object".into(),
        Value::Object(members) => {
            let names = members.keys().take(4).map(|name| clip(name)).collect::<Vec<_>>();
            let more = if members.len() > names.len() { ", …" } else { "" };
            format!("an object with {}{more}", names.join(", "))
        }
    }
}

/// Text of a client for a message: not more of it than helps.
fn clip(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(CHARACTERS_MAX).collect();
    if characters.next().is_some() { format!("{start}…") } else { start }
}
