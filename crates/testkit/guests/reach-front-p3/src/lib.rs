//! A handler of WASI 0.3 with a neighbour that fetches: the path says who of the two is to do it.

use faults::Target;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    inline: "
        package fixture:reach-async;

        interface fetcher {
            fetch: async func(url: string) -> string;
        }

        world front {
            import fetcher;
        }
    ",
});

wasip3::http::service::export!(Front);

struct Front;

impl wasip3::exports::http::handler::Guest for Front {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let url = target.text("url").unwrap_or_default();
        let answer = match target.path {
            "/own" => fetching_p3::shown(&fetching_p3::Ask { url, ..Default::default() }).await,
            _ => fixture::reach_async::fetcher::fetch(url).await,
        };
        let (mut writer, reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
        spawn_local(async move {
            writer.write_all(answer.into_bytes()).await;
        });
        Ok(response)
    }
}
