import java.io.*;
import java.net.*;
import java.nio.channels.*;
import java.util.concurrent.*;

/** A server that inherits its socket, which Java takes from descriptor 0 alone. */
class Server {
    public static void main(String[] arguments) throws Exception {
        var listener = (ServerSocketChannel) System.inheritedChannel();
        var requests = Executors.newCachedThreadPool();
        var accepting = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                listener.close();
                accepting.join();
                requests.close();
            } catch (IOException | InterruptedException e) {
                e.printStackTrace();
            }
        }));
        try {
            while (true) {
                var client = listener.accept();
                requests.execute(() -> answer(client.socket()));
            }
        } catch (ClosedChannelException e) {
            // It is being stopped.
        }
    }

    static void answer(Socket client) {
        try (client) {
            var lines = new BufferedReader(new InputStreamReader(client.getInputStream()));
            for (String line = lines.readLine(); line != null && !line.isEmpty(); line = lines.readLine()) { }
            Thread.sleep(20);
            String body = "generation " + System.getenv("GATEWAY_GENERATION") + "\n";
            String head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + body.length() + "\r\n\r\n";
            client.getOutputStream().write((head + body).getBytes());
        } catch (IOException | InterruptedException e) {
            // The client has gone.
        }
    }
}
