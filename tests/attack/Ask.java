import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Asks an edge three times with the JDK's client as it comes, and prints status and version. */
class Ask {
  public static void main(String[] words) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    HttpRequest.BodyPublisher body = HttpRequest.BodyPublishers.ofString("{\"question\": \"a\"}");
    URI streams = URI.create(words[0] + "/v1/streams");
    HttpRequest post =
        HttpRequest.newBuilder(streams).header("Content-Type", "application/json").POST(body).build();
    HttpRequest get = HttpRequest.newBuilder(URI.create(words[0] + "/v1/streams/nothing")).build();
    for (HttpRequest request : new HttpRequest[] {post, post, get}) {
      HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(answer.statusCode() + " " + answer.version());
    }
  }
}
